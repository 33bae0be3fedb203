// SPDX-License-Identifier: Apache-2.0
// RuntimeReader: what the runtime has of this agent's pods, as views.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "agent/base/loop.h"
#include "agent/cri/runtime.h"
#include "agent/pods/view.h"

namespace fairlead::pods {

// A pod as a list shows it: enough to see that something changed, and who it was.
struct ListedPod {
  PodRuntimeView view;  // without what only status calls tell
  std::string ns;
  std::string name;
  std::int64_t grace_s = 30;  // as its containers say
};

// What of a view is one sandbox, and in it.
PodRuntimeView part_of(const PodRuntimeView& view, const std::string& sandbox_id);

// `view` with what changed as `news`, which an event told, shows it; nullopt: it does not show it, or may be older.
std::optional<PodRuntimeView> with_news(const PodRuntimeView& view, const Change& change, const PodRuntimeView& news);

// A text that differs when a sandbox or container came, went or changed its state.
std::string fingerprint(const PodRuntimeView& view);

// Owner: Pods; thread: its loop. Only what carries our owner label is seen. Answers nothing after its end.
class RuntimeReader {
 public:
  RuntimeReader(Loop& loop, cri::Runtime& runtime, std::string owner)
      : loop_(loop), runtime_(runtime), owner_(std::move(owner)) {}

  // Everything, by pod uid: two calls.
  void list(cri::Done<std::map<std::string, ListedPod>> done);
  // One pod, with statuses, where `change` says what of `known` may not hold any more: one call for a sandbox or a
  // container; for anything two, and one for each sandbox or container of which `known` does not tell all.
  void read(const std::string& uid, const PodRuntimeView& known, const Change& change, cri::Done<PodRuntimeView> done);

 private:
  struct Listing;
  struct Reading;
  void read_all(const std::string& uid, const PodRuntimeView& known, cri::Done<PodRuntimeView> done);
  template <class Response, class Request>
  void ask(const Request& request, std::function<void(Result<Response>)> done);
  void list_labelled(const std::map<std::string, std::string>& labels,
                     cri::Done<std::map<std::string, ListedPod>> done);

  Loop& loop_;
  cri::Runtime& runtime_;
  std::string owner_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace fairlead::pods
