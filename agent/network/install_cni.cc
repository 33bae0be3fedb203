// SPDX-License-Identifier: Apache-2.0
#include "agent/network/install_cni.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "agent/base/atomic_file.h"
#include "agent/base/local_protocol.h"

namespace fairlead::network {
namespace {

// Debian 12's containerd knows CNI 1.0 at most and reads `cniVersion` alone; newer runtimes take the highest that they
// know of all.
constexpr const char* kConfVersion = "1.0.0";
constexpr const char* kProgram = "fairlead-cni";

Result<> make_folder(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return fail_errno(error.value(), fmt::format("make folder {}", path));
  return {};
}

}  // namespace

Result<> install_cni(const std::string& bin_dir, const std::string& conf_dir, const std::string& run_dir,
                     const std::string& source) {
  struct stat facts{};
  if (stat(source.c_str(), &facts) != 0) return fail_errno(errno, fmt::format("find the CNI plugin {}", source));
  FL_LET(const std::string program, read_file(source));
  FL_TRY(make_folder(bin_dir));
  FL_TRY(make_folder(conf_dir));
  const WriteOptions options{.mode = facts.st_mode & 07777};
  FL_TRY(write_atomically(fmt::format("{}/{}", bin_dir, kProgram), program, options));
  if (const std::string loopback = bin_dir + "/loopback"; access(loopback.c_str(), F_OK) != 0) {
    FL_TRY(write_atomically(loopback, program, options));
  }
  const Json plugin{{"type", kProgram},
                    {"runDir", run_dir},
                    {"capabilities", {{"portMappings", true}, {"bandwidth", true}, {"ips", true}, {"mac", true}}}};
  const Json conf{{"cniVersion", kConfVersion},
                  {"cniVersions", {"0.3.1", "0.4.0", "1.0.0", "1.1.0"}},
                  {"name", "fairlead"},
                  {"plugins", Json::array({plugin})}};
  return write_atomically(conf_dir + "/05-fairlead.conflist", conf.dump(2) + "\n", {.mode = 0644});
}

}  // namespace fairlead::network
