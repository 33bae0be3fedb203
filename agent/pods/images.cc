// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/images.h"

#include <utility>

#include "agent/pods/pull_secrets.h"

namespace fairlead::pods {
namespace {

constexpr Duration kCallDeadline = std::chrono::seconds(10);
constexpr Duration kPullDeadline = std::chrono::minutes(10);

std::string seconds_text(Duration duration) {
  return fmt::format("{}ms", std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}

}  // namespace

// One container's image on its way.
struct Images::Search {
  std::shared_ptr<const k8s::Pod> pod;
  k8s::Container container;
  api::PodSandboxConfig sandbox;
  Done done;
  std::vector<api::AuthConfig> logins = {};
  TimePoint wanted = {};  // a pull was asked for
  TimePoint begun = {};   // and it began
  const std::string& image() const { return container.image(); }
  void fail(std::string reason, Error error) const {
    done(std::unexpected(ImageFailure{std::move(reason), std::move(error)}));
  }
};

void Images::status(const std::string& image, std::function<void(Result<api::ImageStatusResponse>)> done) {
  api::ImageStatusRequest request;
  request.mutable_image()->set_image(image);
  runtime_.call(loop_, request, kCallDeadline,
                [alive = std::weak_ptr(alive_), done = std::move(done)](Result<api::ImageStatusResponse> result) {
                  if (!alive.expired()) done(std::move(result));
                });
}

// Pull policy as kubelet reads it, with its reasons.
void Images::find(std::shared_ptr<const k8s::Pod> pod, const k8s::Container& container,
                  const api::PodSandboxConfig& sandbox, Done done) {
  const auto search = std::make_shared<Search>(
      Search{.pod = std::move(pod), .container = container, .sandbox = sandbox, .done = std::move(done)});
  if (container.imagepullpolicy() == "Always") return pull(search);
  status(container.image(), [this, search](Result<api::ImageStatusResponse> result) {
    const std::string& name = search->container.name();
    if (!result) {
      const bool invalid = result.error().code == Code::kInvalid;
      events_.warning(*search->pod, "InspectFailed",
                      fmt::format("Failed to inspect image \"{}\": {}", search->image(), result.error().message()),
                      name);
      return search->fail(invalid ? "InvalidImageName" : "ImageInspectError", result.error());
    }
    if (result->has_image() && !result->image().id().empty()) {
      events_.normal(*search->pod, "Pulled",
                     fmt::format("Container image \"{}\" already present on machine and can be accessed by the pod",
                                 search->image()),
                     name);
      return search->done(result->image());
    }
    if (search->container.imagepullpolicy() != "Never") return pull(search);
    const std::string message =
        fmt::format("Container image \"{}\" is not present with pull policy of Never", search->image());
    events_.warning(*search->pod, "ErrImageNeverPull", message, name);
    search->fail("ErrImageNeverPull", Error{Code::kNotFound, message, 0});
  });
}

void Images::pull(const std::shared_ptr<Search>& search) {
  search->wanted = clock_.now();
  search->logins = logins(*search->pod, search->image());
  pulls_.enter([this, search] {
    search->begun = clock_.now();
    events_.normal(*search->pod, "Pulling", fmt::format("Pulling image \"{}\"", search->image()),
                   search->container.name());
    try_login(search, 0);
  });
}

// Each login in turn until one serves.
void Images::try_login(const std::shared_ptr<Search>& search, std::size_t login) {
  api::PullImageRequest request;
  request.mutable_image()->set_image(search->image());
  *request.mutable_sandbox_config() = search->sandbox;
  if (login < search->logins.size()) *request.mutable_auth() = search->logins[login];
  runtime_.call(loop_, std::move(request), kPullDeadline,
                [this, search, login, alive = std::weak_ptr(alive_)](Result<api::PullImageResponse> result) {
                  if (alive.expired()) return;
                  if (!result && login + 1 < search->logins.size()) return try_login(search, login + 1);
                  pulls_.leave();
                  if (result) return pulled(search, result->image_ref());
                  events_.warning(
                      *search->pod, "Failed",
                      fmt::format("Failed to pull image \"{}\": {}", search->image(), result.error().message()),
                      search->container.name());
                  search->fail("ErrImagePull", result.error());
                });
}

void Images::pulled(const std::shared_ptr<Search>& search, const std::string& ref) {
  const TimePoint now = clock_.now();
  status(ref, [this, search, ref, now](Result<api::ImageStatusResponse> result) {
    api::Image image = result ? result->image() : api::Image();
    image.set_id(ref);  // what was pulled, whatever is told of it
    events_.normal(*search->pod, "Pulled",
                   fmt::format("Successfully pulled image \"{}\" in {} ({} including waiting). Image size: {} bytes.",
                               search->image(), seconds_text(now - search->begun), seconds_text(now - search->wanted),
                               image.size()),
                   search->container.name());
    search->done(std::move(image));
  });
}

std::vector<api::AuthConfig> Images::logins(const k8s::Pod& pod, const std::string& image) const {
  std::vector<RegistryLogin> all;
  std::vector<std::string> missing;
  for (const auto& ref : pod.spec().imagepullsecrets()) {
    const auto secret = config_(ConfigKind::kSecret, pod.metadata().namespace_() + "/" + ref.name());
    const auto held = secret && *secret ? registry_logins(**secret) : fail(Code::kNotFound, "no secret {}", ref.name());
    if (!held) {
      missing.push_back(ref.name());
      continue;
    }
    all.insert(all.end(), held->begin(), held->end());
  }
  if (!missing.empty()) {
    events_.warning(pod, "FailedToRetrieveImagePullSecret",
                    fmt::format("Unable to retrieve some image pull secrets ({}); attempting to pull the image may not "
                                "succeed.",
                                fmt::join(missing, ", ")));
  }
  return logins_for(image, std::move(all));
}

}  // namespace fairlead::pods
