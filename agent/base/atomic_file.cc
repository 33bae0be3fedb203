// SPDX-License-Identifier: Apache-2.0
#include "agent/base/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>

#include "agent/base/unique_fd.h"

namespace fairlead {
namespace {

std::unexpected<Error> fail_call(std::string_view call, const std::string& path) {
  return fail_errno(errno, fmt::format("{} {}", call, path));
}

Result<> write_file(const std::string& path, std::string_view contents, const WriteOptions& options) {
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file) return fail_call("open", path);
  while (!contents.empty()) {
    const ssize_t n = ::write(file.get(), contents.data(), contents.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_call("write", path);
    contents.remove_prefix(static_cast<std::size_t>(n));
  }
  if (::fchmod(file.get(), options.mode) != 0) return fail_call("chmod", path);  // open()'s mode is cut by the umask
  if (options.durable && ::fsync(file.get()) != 0) return fail_call("fsync", path);
  return {};
}

Result<> sync_folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const UniqueFd dir(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir) return fail_call("open", folder);
  if (::fsync(dir.get()) != 0) return fail_call("fsync", folder);
  return {};
}

}  // namespace

Result<> write_atomically(const std::string& path, std::string_view contents, WriteOptions options) {
  const std::string beside = path + ".tmp";
  FL_TRY(write_file(beside, contents, options));
  if (::rename(beside.c_str(), path.c_str()) != 0) return fail_call("rename to", path);
  return options.durable ? sync_folder_of(path) : Result<>{};
}

Result<std::string> read_file(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return fail_call("open", path);
  std::string contents;
  std::array<char, 16384> chunk;
  for (;;) {
    const ssize_t n = ::read(file.get(), chunk.data(), chunk.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_call("read", path);
    if (n == 0) return contents;
    contents.append(chunk.data(), static_cast<std::size_t>(n));
  }
}

}  // namespace fairlead
