// SPDX-License-Identifier: Apache-2.0
#include "agent/network/install_cni.h"

#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "agent/base/local_protocol.h"
#include "agent/network/journal.h"

namespace fairlead::network {
namespace {

// Debian 12's containerd knows CNI 1.0 at most.
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
  std::ifstream file(source, std::ios::binary);
  std::stringstream program;
  if (!file || !(program << file.rdbuf())) return fail(Code::kSystem, "read the CNI plugin {}", source);
  FL_TRY(make_folder(bin_dir));
  FL_TRY(make_folder(conf_dir));
  FL_TRY(replace_file(fmt::format("{}/{}", bin_dir, kProgram), program.str(), facts.st_mode & 07777));
  const Json conf{{"cniVersion", kConfVersion},
                  {"name", "fairlead"},
                  {"plugins", Json::array({{{"type", kProgram}, {"runDir", run_dir}}})}};
  return replace_file(conf_dir + "/05-fairlead.conflist", conf.dump(2) + "\n", 0644);
}

}  // namespace fairlead::network
