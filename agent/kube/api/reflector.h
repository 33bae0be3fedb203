// SPDX-License-Identifier: Apache-2.0
// Reflector: one kind of the API server, kept in one state table: list page by page, then watch from there; resumed by
// resourceVersion after a broken watch, listed anew when that version is gone. Nothing is deleted before a list is
// whole.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/metrics.h"
#include "agent/base/reconciler.h"
#include "agent/base/table_writer.h"
#include "agent/kube/api/http.h"
#include "agent/kube/api/wire.h"

namespace fairlead::kube {

// Where a reflector's objects go, whatever their kind. Bytes are valid during the call.
class ObjectSink {
 public:
  virtual ~ObjectSink() = default;
  virtual void begin_list() = 0;
  virtual Result<> item(std::string_view object) = 0;  // one of the list being read
  virtual void end_list() = 0;                         // whole: rows that were not named are gone
  virtual Result<> changed(std::string_view object) = 0;
  virtual Result<> deleted(std::string_view object) = 0;
};

// Decodes with `decode` (bytes → key and row) and writes through `writer`. An object that does not decode is logged,
// and what the table has of it stays.
template <class Row>
class TableObjectSink final : public ObjectSink {
 public:
  using Decode = std::function<Result<std::pair<std::string, Row>>(std::string_view)>;
  TableObjectSink(TableWriter<Row> writer, Decode decode) : writer_(std::move(writer)), decode_(std::move(decode)) {}

  void begin_list() override { listed_.clear(); }
  Result<> item(std::string_view object) override {
    FL_LET(auto keyed, decode_(object));
    listed_.emplace_back(std::move(keyed.first), std::make_shared<const Row>(std::move(keyed.second)));
    return {};
  }
  void end_list() override { writer_.replace(std::exchange(listed_, {})); }
  Result<> changed(std::string_view object) override {
    FL_LET(auto keyed, decode_(object));
    writer_.upsert(std::move(keyed.first), std::move(keyed.second));
    return {};
  }
  Result<> deleted(std::string_view object) override {
    FL_LET(const auto keyed, decode_(object));
    writer_.erase(keyed.first);
    return {};
  }

 private:
  TableWriter<Row> writer_;
  Decode decode_;
  std::vector<std::pair<std::string, std::shared_ptr<const Row>>> listed_;
};

struct ReflectorConfig {
  std::string kind;      // for logs and metrics: "Service"
  std::string path;      // "/api/v1/services"
  std::string selector;  // "fieldSelector=spec.nodeName%3Dn1", or empty
  unsigned page_size = 500;
  Duration watch_for = std::chrono::minutes(7);       // the server ends a watch after this; then it is resumed
  Duration stalled_after = std::chrono::seconds(90);  // no byte, bookmarks included: the connection is dead
};

// Owner: the API edge; thread: its loop, on which `http` lives too.
class Reflector {
 public:
  Reflector(Loop& loop, HttpClient& http, ReflectorConfig config, std::unique_ptr<ObjectSink> sink,
            metrics::Registry& registry);

  void start() { list(""); }
  bool listed() const { return listed_; }
  // Why the last attempt failed; empty while all is well.
  const std::string& trouble() const { return trouble_; }

 private:
  void list(std::string page);
  void on_list(const HttpRequest& request, Result<HttpResponse> answer);
  void watch();
  Result<> on_frame(const WatchFrame& frame);
  void retry(const Error& error, Duration at_least, std::function<void()> again);
  std::string query(const std::string& more) const;

  Loop& loop_;
  HttpClient& http_;
  ReflectorConfig config_;
  std::unique_ptr<ObjectSink> sink_;
  prometheus::Counter& lists_;
  prometheus::Counter& watches_;
  prometheus::Counter& bad_objects_;
  std::string resource_version_;
  std::unique_ptr<FrameReader> frames_;
  std::string trouble_;
  Backoff backoff_{.first = std::chrono::milliseconds(200), .limit = std::chrono::seconds(30)};
  unsigned failures_ = 0;
  bool listed_ = false;
  bool expired_ = false;  // the server no longer has resource_version_: list again
  Subscription timer_;
};

}  // namespace fairlead::kube
