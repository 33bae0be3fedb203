// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/reflector.h"

#include <curl/curl.h>
#include <k8s/meta.pb.h>

#include <algorithm>
#include <utility>

#include "agent/base/log.h"
#include "agent/kube/api/api_work.h"

namespace fairlead::kube {
namespace {

constexpr long kGone = 410;
constexpr long kTooManyRequests = 429;

std::string url_escape(const std::string& text) {
  char* escaped = curl_easy_escape(nullptr, text.c_str(), static_cast<int>(text.size()));
  std::string out(escaped);
  curl_free(escaped);
  return out;
}

}  // namespace

Reflector::Reflector(Loop& loop, HttpClient& http, ReflectorConfig config, std::unique_ptr<ObjectSink> sink,
                     metrics::Registry& registry)
    : loop_(loop),
      http_(http),
      config_(std::move(config)),
      sink_(std::move(sink)),
      lists_(metrics::counter(registry, "fairlead_reflector_lists_total", "Lists asked of the API server.",
                              {{"kind", config_.kind}})),
      watches_(metrics::counter(registry, "fairlead_reflector_watches_total", "Watches asked of the API server.",
                                {{"kind", config_.kind}})),
      bad_objects_(metrics::counter(registry, "fairlead_reflector_bad_objects_total",
                                    "Objects of the API server that could not be read.", {{"kind", config_.kind}})) {}

Reflector::~Reflector() {
  http_.cancel(call_);
}

std::string Reflector::query(const std::string& more) const {
  return config_.path + "?" + (config_.selector.empty() ? more : config_.selector + "&" + more);
}

void Reflector::list() {
  sink_->begin_list();
  lists_.Increment();
  if (!config_.stream_lists) return list_page("");
  streaming_list_ = true;
  HttpRequest request;
  request.path = query("watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true" +
                       watch_timeout());
  follow(std::move(request));
}

void Reflector::list_page(const std::string& page) {
  HttpRequest request;
  request.path = query(fmt::format("limit={}{}", whole_pages_ ? 0 : config_.page_size,
                                   page.empty() ? "" : "&continue=" + url_escape(page)));
  request.headers = {fmt::format("Accept: {}", kProtobufType)};
  request.timeout = std::chrono::minutes(2);
  request.idle_limit = config_.stalled_after;
  call_ = http_.send(request, [this, request](Result<HttpResponse> answer) { on_page(request, std::move(answer)); });
}

void Reflector::on_page(const HttpRequest& request, Result<HttpResponse> answer) {
  call_ = 0;
  if (!answer) return retry(answer.error(), {}, &Reflector::list);
  if (const auto status = check_status(request, *answer); !status) {
    whole_pages_ = whole_pages_ || answer->status == kGone;
    return retry(status.error(), answer->retry_after, &Reflector::list);
  }
  const auto head = read_list(answer->body, [this](std::string_view object) -> Result<> {
    FL_LET(const ObjectHead item, read_head(object));
    put(item, object);
    return {};
  });
  if (!head) return retry(head.error(), {}, &Reflector::list);
  if (!head->next_page.empty()) return list_page(head->next_page);
  end_list(head->resource_version);
  watch();
}

void Reflector::end_list(std::string resource_version) {
  sink_->end_list();
  listed_ = true;
  whole_pages_ = false;
  trouble_.clear();
  resource_version_ = std::move(resource_version);
  log::write(config_.object.empty() ? log::Level::kInfo : log::Level::kDebug, "reflector", "listed",
             {{"kind", config_.name()}, {"resource_version", resource_version_}});
}

void Reflector::watch() {
  HttpRequest request;
  request.path =
      query("watch=1&allowWatchBookmarks=true&resourceVersion=" + url_escape(resource_version_) + watch_timeout());
  follow(std::move(request));
}

void Reflector::follow(HttpRequest request) {
  watches_.Increment();
  frames_ = {};
  broken_.reset();
  heard_ = false;
  request.headers = {fmt::format("Accept: {};stream=watch", kProtobufType)};
  request.timeout = {};
  request.idle_limit = config_.stalled_after;
  call_ = http_.send(
      request, [this, request](Result<HttpResponse> answer) { on_end(request, std::move(answer)); },
      [this](std::string_view bytes) {
        if (bytes.empty() && !streaming_list_) trouble_.clear();  // it watches; there may be nothing to tell for long
        auto fed = frames_.feed(bytes, [this](const WatchFrame& frame) { return on_frame(frame); });
        if (!fed) broken_ = fail_with(std::move(fed).error(), "GET " + config_.path).error();
        return !broken_;
      });
}

void Reflector::on_end(const HttpRequest& request, Result<HttpResponse> answer) {
  call_ = 0;
  const bool listing = std::exchange(streaming_list_, false);
  const auto again = listing ? &Reflector::list : &Reflector::watch;
  if (answer) {
    if (const auto status = check_status(request, *answer); !status) {
      if (listing && status.error().code == Code::kInvalid) {
        log::info("reflector", "the API server streams no lists: reading pages", {{"kind", config_.name()}});
        config_.stream_lists = false;
        return list();
      }
      // What the server calls wrong about a watch is the version that it was to begin at.
      const bool lost = answer->status == kGone || status.error().code == Code::kInvalid;
      return retry(status.error(), answer->retry_after, lost ? &Reflector::list : again);
    }
    if (listing || frames_.torn()) {
      return retry({Code::kUnavailable, fmt::format("GET {}: the stream was cut short", config_.path)}, {},
                   &Reflector::list);
    }
    if (heard_) return watch();  // ended in peace
    timer_ = loop_.after(jittered(config_.backoff.delay(++failures_)), [this] { watch(); });
    return;
  }
  if (broken_) {
    // A frame that cannot be read may have been an event that is now missed.
    return retry(*broken_, {}, broken_->code == Code::kUnavailable ? again : &Reflector::list);
  }
  // A quiet kind may have had nothing to say: not an error worth words, but worth a new connection.
  if (answer.error().code == Code::kTimeout && !listing) return watch();
  retry(answer.error(), {}, again);
}

Result<> Reflector::on_frame(const WatchFrame& frame) {
  if (frame.type == "ERROR") {
    k8s::Status status;
    status.ParseFromString(frame.object);
    const bool busy = status.code() == kTooManyRequests || status.code() >= 500;
    return fail(busy ? Code::kUnavailable : Code::kConflict, "{} {}", status.code(), status.message());
  }
  FL_LET(const ObjectHead head, read_head(frame.object));
  heard_ = true;
  failures_ = 0;
  trouble_.clear();
  if (frame.type == "DELETED") {
    sink_->remove(head);
  } else if (frame.type != "BOOKMARK") {
    put(head, frame.object);
  }
  if (!streaming_list_) {
    if (!head.resource_version.empty()) resource_version_ = head.resource_version;
  } else if (frame.type == "BOOKMARK" && head.initial_events_end) {
    streaming_list_ = false;
    end_list(head.resource_version);
  }
  return {};
}

void Reflector::put(const ObjectHead& head, std::string_view object) {
  const auto result = sink_->put(head, object);
  if (result) return;
  bad_objects_.Increment();
  log::warn("reflector", "object refused", {{"kind", config_.kind}, {"error", result.error()}});
}

void Reflector::retry(const Error& error, Duration at_least, void (Reflector::*again)()) {
  const Duration wait = std::max(at_least, jittered(config_.backoff.delay(++failures_)));
  const bool news = std::exchange(trouble_, error.message()) != trouble_;
  log::write(news ? log::Level::kWarn : log::Level::kDebug, "reflector", "API server: will try again",
             {{"kind", config_.name()},
              {"error", error},
              {"wait_ms", std::chrono::duration_cast<std::chrono::milliseconds>(wait).count()}});
  timer_ = loop_.after(wait, [this, again] { (this->*again)(); });
}

// The server shall end the watch itself, not all nodes' at once.
std::string Reflector::watch_timeout() const {
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(config_.watch_for + jittered(config_.watch_for));
  return fmt::format("&timeoutSeconds={}", seconds.count());
}

}  // namespace fairlead::kube
