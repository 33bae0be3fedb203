// SPDX-License-Identifier: Apache-2.0
#include "test/kit/containerd.h"

#include <utility>

namespace fairlead::testkit {
namespace {

// A line of bash with the functions of containerd.sh at hand; it must not hold single quotes.
CommandResult run(const std::string& line) {
  return run_command("bash -c '. " FAIRLEAD_SOURCE_DIR "/scripts/lib/containerd.sh; " + line + "'");
}

}  // namespace

Result<Containerd> Containerd::start(const Options& options) {
  const std::string folder = options.folder.string();
  Containerd made(options.folder);  // ends what came up, should a later step fail
  const auto started =
      run("containerd_start \"" + folder + "\" \"" + options.netns + "\" \"" + options.bin_folder.string() + "\"");
  if (started.code != 0) return fail(Code::kUnavailable, "containerd in {}: {}", folder, started.output);
  const auto imported = made.ctr("images import " FAIRLEAD_TEST_IMAGES);
  if (imported.code != 0) return fail(Code::kUnavailable, "import of the images into {}: {}", folder, imported.output);
  return made;
}

Containerd::Containerd(Containerd&& other) noexcept : folder_(std::exchange(other.folder_, {})) {}

Containerd::~Containerd() {
  if (!folder_.empty()) run("containerd_stop \"" + folder_.string() + "\"");
}

CommandResult Containerd::ctr(const std::string& args) const {
  return run("containerd_ctr \"" + folder_.string() + "\" " + args);
}

void Containerd::kill_daemon() const {
  run("kill -KILL $(cat \"" + folder_.string() + "/pid\")");
}

}  // namespace fairlead::testkit
