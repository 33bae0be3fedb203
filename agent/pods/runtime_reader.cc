// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/runtime_reader.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "agent/pods/cri_config.h"

namespace fairlead::pods {
namespace {

constexpr Duration kDeadline = std::chrono::seconds(10);

std::string value_of(const auto& map, const char* key) {
  const auto at = map.find(key);
  return at == map.end() ? std::string() : at->second;
}

template <class Known>
const Known* find_id(const std::vector<Known>& list, const std::string& id) {
  const auto at = std::ranges::find(list, id, &Known::id);
  return at == list.end() ? nullptr : &*at;
}

// Whether a container's status calls have told all there is to tell about the state that it is in now.
bool told(const ContainerView& known, const ContainerView& now) {
  if (known.state != now.state) return false;
  if (now.state == RunState::kExited) return known.finished != WallTime{};
  return now.state == RunState::kRunning && known.started != WallTime{};
}

cri::api::PodSandboxStatusRequest status_request(const SandboxView& sandbox) {
  cri::api::PodSandboxStatusRequest request;
  request.set_pod_sandbox_id(sandbox.id);
  return request;
}

cri::api::ContainerStatusRequest status_request(const ContainerView& container) {
  cri::api::ContainerStatusRequest request;
  request.set_container_id(container.id);
  return request;
}

// `view` with this for what it has of that id; nothing in its place where there is nothing any more.
template <class Item>
PodRuntimeView with(PodRuntimeView view, std::vector<Item> PodRuntimeView::* items, const std::string& id,
                    std::optional<Item> now) {
  std::erase_if(view.*items, [&](const Item& item) { return item.id == id; });
  if (now) (view.*items).push_back(std::move(*now));
  return view;
}

}  // namespace

std::optional<PodRuntimeView> with_news(const PodRuntimeView& view, const Change& change, const PodRuntimeView& news) {
  if (!change.begun) return {};
  if (change.what == Change::Of::kSandbox) {
    const SandboxView* shown = find_id(news.sandboxes, change.id);
    if (shown == nullptr || !shown->ready || shown->ips.empty()) return {};
    return with(view, &PodRuntimeView::sandboxes, change.id, std::optional(*shown));
  }
  const ContainerView* shown = find_id(news.containers, change.id);
  if (shown == nullptr || (shown->state != RunState::kRunning && shown->state != RunState::kExited)) return {};
  return with(view, &PodRuntimeView::containers, change.id, std::optional(*shown));
}

PodRuntimeView part_of(const PodRuntimeView& view, const std::string& sandbox_id) {
  PodRuntimeView part = view;
  std::erase_if(part.sandboxes, [&](const SandboxView& one) { return one.id != sandbox_id; });
  std::erase_if(part.containers, [&](const ContainerView& one) { return one.sandbox_id != sandbox_id; });
  return part;
}

std::string fingerprint(const PodRuntimeView& view) {
  std::vector<std::string> parts;
  for (const SandboxView& sandbox : view.sandboxes) parts.push_back(sandbox.id + (sandbox.ready ? "+" : "-"));
  for (const ContainerView& container : view.containers) {
    parts.push_back(fmt::format("{}:{}", container.id, static_cast<int>(container.state)));
  }
  std::ranges::sort(parts);
  std::string all;
  for (const std::string& part : parts) all += part + " ";
  return all;
}

// Two lists on their way to one answer.
struct RuntimeReader::Listing {
  std::map<std::string, ListedPod> pods;
  int waiting = 2;
  std::optional<Error> failure;
  cri::Done<std::map<std::string, ListedPod>> done;

  void arrived() {
    if (--waiting != 0) return;
    if (failure) return done(std::unexpected(std::move(*failure)));
    done(std::move(pods));
  }
};

void RuntimeReader::list_labelled(const std::map<std::string, std::string>& labels,
                                  cri::Done<std::map<std::string, ListedPod>> done) {
  auto listing = std::make_shared<Listing>();
  listing->done = std::move(done);
  const auto take = [listing, alive = std::weak_ptr(alive_)](auto& result, auto each) {
    if (alive.expired()) return;
    if (result) {
      each(*result);
    } else {
      listing->failure = std::move(result).error();
    }
    listing->arrived();
  };
  cri::api::ListPodSandboxRequest sandboxes;
  cri::api::ListContainersRequest containers;
  for (const auto& [key, value] : labels) {
    (*sandboxes.mutable_filter()->mutable_label_selector())[key] = value;
    (*containers.mutable_filter()->mutable_label_selector())[key] = value;
  }
  runtime_.call(loop_, sandboxes, kDeadline, [listing, take](Result<cri::api::ListPodSandboxResponse> result) {
    take(result, [&](const cri::api::ListPodSandboxResponse& answer) {
      for (const auto& item : answer.items()) {
        ListedPod& pod = listing->pods[item.metadata().uid()];
        pod.ns = item.metadata().namespace_();
        pod.name = item.metadata().name();
        pod.view.sandboxes.push_back(sandbox_view(item));
      }
    });
  });
  runtime_.call(loop_, containers, kDeadline, [listing, take](Result<cri::api::ListContainersResponse> result) {
    take(result, [&](const cri::api::ListContainersResponse& answer) {
      for (const auto& item : answer.containers()) {
        ListedPod& pod = listing->pods[value_of(item.labels(), kPodUidLabel)];
        pod.ns = value_of(item.labels(), kPodNamespaceLabel);
        pod.name = value_of(item.labels(), kPodNameLabel);
        const std::string grace = value_of(item.annotations(), kPodGraceAnnotation);
        std::from_chars(grace.data(), grace.data() + grace.size(), pod.grace_s);
        pod.view.containers.push_back(container_view(item));
      }
    });
  });
}

void RuntimeReader::list(cri::Done<std::map<std::string, ListedPod>> done) {
  list_labelled({{kOwnerLabel, owner_}}, std::move(done));
}

// A listed pod on its way to a whole view.
struct RuntimeReader::Reading {
  PodRuntimeView view;
  std::size_t waiting = 1;
  std::optional<Error> failure;
  cri::Done<PodRuntimeView> done;

  void arrived(const Error* error) {
    // What went away between the list and its status is no failure: the next look does not list it.
    if (error != nullptr && error->code != Code::kNotFound) failure = *error;
    if (--waiting != 0) return;
    if (failure) return done(std::unexpected(std::move(*failure)));
    done(std::move(view));
  }
};

template <class Response, class Request>
void RuntimeReader::ask(const Request& request, std::function<void(Result<Response>)> done) {
  runtime_.call(loop_, request, kDeadline, [alive = std::weak_ptr(alive_), done = std::move(done)](auto answer) {
    if (!alive.expired()) done(std::move(answer));
  });
}

void RuntimeReader::read_all(const std::string& uid, const PodRuntimeView& known, cri::Done<PodRuntimeView> done) {
  list_labelled({{kOwnerLabel, owner_}, {kPodUidLabel, uid}}, [this, uid, known, done = std::move(done)](auto listed) {
    if (!listed) return done(std::unexpected(std::move(listed).error()));
    auto reading = std::make_shared<Reading>();
    reading->view = std::move((*listed)[uid].view);
    reading->done = done;
    for (SandboxView& sandbox : reading->view.sandboxes) {
      const SandboxView* before = find_id(known.sandboxes, sandbox.id);
      if (before != nullptr) sandbox.ips = before->ips;
      if (!sandbox.ready || !sandbox.ips.empty()) continue;
      ++reading->waiting;
      ask<cri::api::PodSandboxStatusResponse>(status_request(sandbox), [reading, &sandbox](const auto& answer) {
        if (!answer) return reading->arrived(&answer.error());
        sandbox.ips = sandbox_view(answer->status()).ips;
        reading->arrived(nullptr);
      });
    }
    for (ContainerView& container : reading->view.containers) {
      const ContainerView* before = find_id(known.containers, container.id);
      if (before != nullptr && told(*before, container)) {
        container = *before;
        continue;
      }
      ++reading->waiting;
      ask<cri::api::ContainerStatusResponse>(status_request(container), [reading, &container](const auto& answer) {
        if (!answer) return reading->arrived(&answer.error());
        container = container_view(answer->status(), container.sandbox_id);
        reading->arrived(nullptr);
      });
    }
    reading->arrived(nullptr);
  });
}

void RuntimeReader::read(const std::string& uid, const PodRuntimeView& known, const Change& change,
                         cri::Done<PodRuntimeView> done) {
  // What cannot be told apart is all looked at.
  const auto all = [this, uid, known, done] { read_all(uid, known, done); };
  switch (change.what) {
    case Change::Of::kAnything:
      return all();
    case Change::Of::kNothing:
      return loop_.post([known, done] { done(known); });
    case Change::Of::kSandbox:
      return ask<cri::api::PodSandboxStatusResponse>(
          status_request(SandboxView{.id = change.id}), [known, change, all, done](const auto& answer) {
            if (!answer && answer.error().code != Code::kNotFound) return all();
            done(with(known, &PodRuntimeView::sandboxes, change.id,
                      answer ? std::optional(sandbox_view(answer->status())) : std::nullopt));
          });
    case Change::Of::kContainer:
      return ask<cri::api::ContainerStatusResponse>(
          status_request(ContainerView{.id = change.id}), [known, change, all, done](const auto& answer) {
            if (!answer && answer.error().code != Code::kNotFound) return all();
            done(with(known, &PodRuntimeView::containers, change.id,
                      answer ? std::optional(container_view(answer->status(), change.sandbox_id)) : std::nullopt));
          });
  }
}

}  // namespace fairlead::pods
