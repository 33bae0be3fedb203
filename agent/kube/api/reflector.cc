// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/reflector.h"

#include <curl/curl.h>
#include <k8s/meta.pb.h>

#include <random>

namespace fairlead::kube {
namespace {

constexpr long kGone = 410;

std::string url_escape(const std::string& text) {
  char* escaped = curl_easy_escape(nullptr, text.c_str(), static_cast<int>(text.size()));
  std::string out(escaped);
  curl_free(escaped);
  return out;
}

// Spreads retries of many nodes: between half of `wait` and all of it.
Duration jittered(Duration wait) {
  static thread_local std::minstd_rand random{std::random_device{}()};
  return Duration(std::uniform_int_distribution<Duration::rep>(wait.count() / 2, wait.count())(random));
}

// The part of every kind's wire form that a reflector itself needs: metadata is field 1 everywhere.
std::string resource_version_of(std::string_view object) {
  k8s::PartialObject partial;
  if (!partial.ParseFromArray(object.data(), static_cast<int>(object.size()))) return {};
  return partial.metadata().resourceversion();
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

std::string Reflector::query(const std::string& more) const {
  return config_.path + "?" + (config_.selector.empty() ? more : config_.selector + "&" + more);
}

void Reflector::list(std::string page) {
  if (page.empty()) {
    sink_->begin_list();
    lists_.Increment();
  }
  HttpRequest request;
  request.path =
      query(fmt::format("limit={}{}", config_.page_size, page.empty() ? "" : "&continue=" + url_escape(page)));
  request.headers = {fmt::format("Accept: {}", kProtobufType)};
  request.timeout = std::chrono::seconds(60);
  http_.send(request, [this, request](Result<HttpResponse> answer) { on_list(request, std::move(answer)); });
}

void Reflector::on_list(const HttpRequest& request, Result<HttpResponse> answer) {
  const auto again = [this] { list(""); };
  if (!answer) return retry(answer.error(), {}, again);
  if (const auto status = check_status(request, *answer); !status) {
    return retry(status.error(), answer->retry_after, again);
  }
  const auto head = read_list(answer->body, [this](std::string_view object) -> Result<> {
    if (const auto read = sink_->item(object); !read) {
      bad_objects_.Increment();
      log::warn("reflector", "object refused", {{"kind", config_.kind}, {"error", read.error()}});
    }
    return {};
  });
  if (!head) return retry(head.error(), {}, again);
  if (!head->next_page.empty()) return list(head->next_page);
  sink_->end_list();
  listed_ = true;
  failures_ = 0;
  trouble_.clear();
  resource_version_ = head->resource_version;
  log::info("reflector", "listed", {{"kind", config_.kind}, {"resource_version", resource_version_}});
  watch();
}

void Reflector::watch() {
  watches_.Increment();
  expired_ = false;
  frames_ = std::make_unique<FrameReader>();
  HttpRequest request;
  request.path = query(fmt::format("watch=1&allowWatchBookmarks=true&timeoutSeconds={}&resourceVersion={}",
                                   std::chrono::duration_cast<std::chrono::seconds>(config_.watch_for).count(),
                                   url_escape(resource_version_)));
  request.headers = {fmt::format("Accept: {};stream=watch", kProtobufType)};
  request.timeout = {};
  request.idle_limit = config_.stalled_after;
  http_.send(
      request,
      [this, request](Result<HttpResponse> answer) {
        const auto relist = [this] { list(""); };
        if (expired_ || (answer && answer->status == kGone)) {
          log::info("reflector", "resource version is gone, listing again", {{"kind", config_.kind}});
          return relist();
        }
        if (answer) {
          if (const auto status = check_status(request, *answer); !status) {
            return retry(status.error(), answer->retry_after, [this] { watch(); });
          }
          return watch();  // ended in peace
        }
        // A quiet kind may have nothing to say until its next bookmark: not an error worth words, but worth a new
        // connection.
        if (answer.error().code == Code::kTimeout) return watch();
        // A frame that cannot be read may have been an event that is now missed.
        if (answer.error().code == Code::kCancelled) return retry(answer.error(), {}, relist);
        retry(answer.error(), {}, [this] { watch(); });
      },
      [this](std::string_view bytes) {
        const auto fed = frames_->feed(bytes, [this](const WatchFrame& frame) { return on_frame(frame); });
        if (!fed) log::warn("reflector", "watch broken", {{"kind", config_.kind}, {"error", fed.error()}});
        return fed.has_value();
      });
}

Result<> Reflector::on_frame(const WatchFrame& frame) {
  if (frame.type == "ERROR") {
    k8s::Status status;
    status.ParseFromString(frame.object);
    expired_ = status.code() == kGone;
    return fail(Code::kUnavailable, "watch of {}: {} {}", config_.kind, status.code(), status.message());
  }
  failures_ = 0;
  trouble_.clear();
  const std::string version = resource_version_of(frame.object);
  if (!version.empty()) resource_version_ = version;
  if (frame.type == "BOOKMARK") return {};
  const auto result = frame.type == "DELETED" ? sink_->deleted(frame.object) : sink_->changed(frame.object);
  if (!result) {
    bad_objects_.Increment();
    log::warn("reflector", "object refused", {{"kind", config_.kind}, {"error", result.error()}});
  }
  return {};
}

void Reflector::retry(const Error& error, Duration at_least, std::function<void()> again) {
  trouble_ = error.message();
  const Duration wait = std::max(at_least, jittered(backoff_.delay(++failures_)));
  log::warn("reflector", "API server: will try again",
            {{"kind", config_.kind},
             {"error", error},
             {"wait_ms", std::chrono::duration_cast<std::chrono::milliseconds>(wait).count()}});
  timer_ = loop_.after(wait, [again = std::move(again)] { again(); });
}

}  // namespace fairlead::kube
