// SPDX-License-Identifier: Apache-2.0
// What is known of one pod, as values: what the runtime tells of it (PodRuntimeView) and what only this agent can
// remember (PodHistory). The plan and the status are pure functions of both and of the pod's spec.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/ip.h"

namespace fairlead::pods {

struct SandboxView {
  std::string id;
  std::uint32_t attempt = 0;
  bool ready = false;
  WallTime created;
  std::vector<IpAddress> ips;  // empty for host network, and until its status was asked for
};

enum class RunState { kCreated, kRunning, kExited, kUnknown };

struct ContainerView {
  std::string id;
  std::string name;
  std::string sandbox_id;
  std::uint32_t attempt = 0;
  RunState state = RunState::kUnknown;
  std::string hash;     // of name and image, as it was created
  unsigned streak = 0;  // short runs in a row before this one, as written on it
  WallTime created;
  WallTime started;   // the epoch: never
  WallTime finished;  // the epoch: not yet
  std::int32_t exit_code = 0;
  std::string reason;   // the runtime's word: "Completed", "Error", "OOMKilled"
  std::string message;  // the runtime's, or the termination message
  std::string image;    // as its spec named it
  std::string image_id;
};

struct PodRuntimeView {
  std::vector<SandboxView> sandboxes;
  std::vector<ContainerView> containers;

  // The sandbox of the highest attempt, or nullptr.
  const SandboxView* sandbox() const;
  // The container of `name` of the highest attempt, in any sandbox, or nullptr; `before`: below that attempt.
  const ContainerView* latest(const std::string& name, std::optional<std::uint32_t> before = {}) const;
};

// What of a pod is not as the view has it any more.
struct Change {
  enum class Of {
    kAnything,
    kNothing,
    kSandbox,    // id, which may be new, or gone
    kContainer,  // likewise, and the sandbox that it is in
  };
  Of what = Of::kAnything;
  std::string id = {};
  std::string sandbox_id = {};
  bool begun = false;  // it runs since now: whatever shows it running or ended is as new as a look
};

// A thing that did not come about, and when it may be tried again. Key of PodHistory::failures: the container's name,
// or what one of the constants below says (no container's name has a slash).
struct Failure {
  std::string reason;  // kubelet's word: "ErrImagePull", "CreateContainerError", …
  std::string message;
  unsigned count = 0;
  WallTime until;
};
inline constexpr auto kSandboxKey = "/sandbox";
inline constexpr auto kVolumesKey = "/volumes";
inline constexpr auto kEndPrefix = "/end/";  // and the id of what was to be ended or removed; no id: all that is left

struct PodHistory {
  std::optional<std::int64_t> ending_grace_s;  // the pod is to go, its containers within so many seconds
  WallTime ending_since;                       // its containers' grace runs from here
  bool over = false;  // it had ended before this agent saw it: nothing of it is begun again, and what was told stands
  std::optional<Failure> refused;  // the pod must not run, or no longer, and why
  bool volumes_ready = false;      // set up in this agent's life
  std::uint32_t next_attempt = 0;  // of a sandbox, at least: names below it are taken
  bool torn_down = false;          // volumes, cgroups and logs are gone
  std::map<std::string, Failure> failures;
  std::map<std::string, bool> started;           // container id → its startup probe's word
  std::map<std::string, std::string> unhealthy;  // ids of containers that are to be killed → what they failed
};

}  // namespace fairlead::pods
