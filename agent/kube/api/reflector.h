// SPDX-License-Identifier: Apache-2.0
// Reflector: objects of the API server, listed and then watched; resumed by resourceVersion after a broken watch,
// listed anew when that version is gone. Nothing is deleted before a list is whole.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "agent/base/loop.h"
#include "agent/base/metrics.h"
#include "agent/base/reconciler.h"
#include "agent/kube/api/http.h"
#include "agent/kube/api/object_sink.h"
#include "agent/kube/api/wire.h"

namespace fairlead::kube {

struct ReflectorConfig {
  std::string kind;        // for metrics: "Service"
  std::string object{};    // "namespace/name" where one object is read, else empty
  std::string path;        // "/api/v1/services"
  std::string selector{};  // "fieldSelector=spec.nodeName%3Dn1", or empty
  unsigned page_size = 500;
  bool stream_lists = true;                           // ask for lists as the beginning of the watch
  Duration watch_for = std::chrono::minutes(5);       // the server ends a watch after 1.5 to 2 times this
  Duration stalled_after = std::chrono::seconds(90);  // no byte, bookmarks included: the connection is dead
  Backoff backoff{.first = std::chrono::milliseconds(200), .limit = std::chrono::seconds(30)};

  std::string name() const { return object.empty() ? kind : kind + " " + object; }
};

// Owner: the API edge; thread: its loop, on which `http` lives too. Cost: one exchange open all the time. Destroying it
// ends that exchange; rows stay.
//
// A list comes as a stream (sendInitialEvents), on which the watch then goes on; where the server refuses that, page by
// page. Counts: fairlead_reflector_{lists,watches,bad_objects}_total{kind}.
class Reflector {
 public:
  Reflector(Loop& loop, HttpClient& http, ReflectorConfig config, std::unique_ptr<ObjectSink> sink,
            metrics::Registry& registry);
  ~Reflector();

  void start() { list(); }
  const ReflectorConfig& config() const { return config_; }
  bool listed() const { return listed_; }
  // Why the last attempt failed; empty while all is well.
  const std::string& trouble() const { return trouble_; }

 private:
  void list();
  void list_page(const std::string& page);
  void on_page(const HttpRequest& request, Result<HttpResponse> answer);
  void end_list(std::string resource_version);
  void watch();
  void follow(HttpRequest request);
  void on_end(const HttpRequest& request, Result<HttpResponse> answer);
  Result<> on_frame(const WatchFrame& frame);
  void put(const ObjectHead& head, std::string_view object);
  void retry(const Error& error, Duration at_least, void (Reflector::*again)());
  std::string query(const std::string& more) const;
  std::string watch_timeout() const;

  Loop& loop_;
  HttpClient& http_;
  ReflectorConfig config_;
  std::unique_ptr<ObjectSink> sink_;
  prometheus::Counter& lists_;
  prometheus::Counter& watches_;
  prometheus::Counter& bad_objects_;
  HttpClient::CallId call_ = 0;
  std::string resource_version_;
  FrameReader frames_;
  std::optional<Error> broken_;  // why our reader ended the stream
  bool streaming_list_ = false;  // the stream has not told all that there was
  bool heard_ = false;           // at least one frame came
  bool whole_pages_ = false;     // pages ran out once while they were read: one page of all
  bool listed_ = false;
  std::string trouble_;
  unsigned failures_ = 0;
  Subscription timer_;
};

}  // namespace fairlead::kube
