// SPDX-License-Identifier: Apache-2.0
#include "agent/sockets/socket_files.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/unique_fd.h"

namespace fairlead::sockets {
namespace {

namespace fs = std::filesystem;

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(value) : std::nullopt;
}

// The inode of the socket that a link in /proc/PID/fd leads to.
std::optional<std::uint64_t> socket_at(const char* link) {
  std::array<char, 64> target{};
  const ssize_t size = readlink(link, target.data(), target.size());
  std::string_view text(target.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
  if (!text.starts_with("socket:[") || !text.ends_with("]")) return std::nullopt;
  text.remove_prefix(std::string_view("socket:[").size());
  text.remove_suffix(1);
  return number(text);
}

// A descriptor of our own for another process's; none where it or the process is gone, or we may not.
UniqueFd duplicate(std::uint64_t process, std::uint64_t descriptor) {
  const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, static_cast<pid_t>(process), 0)));
  if (!pidfd) return {};
  return UniqueFd(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd.get(), static_cast<int>(descriptor), 0)));
}

}  // namespace

void visit_sockets(std::set<std::uint64_t> inodes, const std::function<void(std::uint64_t, int)>& visit) {
  std::error_code gone;
  for (fs::directory_iterator process("/proc", gone), end; process != end && !inodes.empty(); process.increment(gone)) {
    const auto pid = number(process->path().filename().native());
    if (!pid) continue;
    std::error_code ended;
    for (fs::directory_iterator file(process->path() / "fd", ended); file != end && !ended; file.increment(ended)) {
      const auto inode = socket_at(file->path().c_str());
      const auto descriptor = number(file->path().filename().native());
      if (!inode || !descriptor || !inodes.contains(*inode)) continue;
      const UniqueFd own = duplicate(*pid, *descriptor);
      if (!own) continue;
      visit(*inode, own.get());
      inodes.erase(*inode);
    }
  }
}

}  // namespace fairlead::sockets
