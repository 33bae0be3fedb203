// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/volumes/payload.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <random>
#include <set>

#include "agent/base/atomic_file.h"
#include "agent/base/unique_fd.h"
#include "agent/pods/volumes/files.h"

namespace fairlead::pods {

namespace {

namespace fs = std::filesystem;

constexpr const char* kData = "..data";
constexpr const char* kDataTmp = "..data_tmp";

// What lies in the folder that "..data" links to, its owners too.
Result<Payload> read_back(const fs::path& root) {
  Payload found;
  std::error_code error;
  for (auto at = fs::recursive_directory_iterator(root, error); !error && at != fs::recursive_directory_iterator();
       at.increment(error)) {
    if (!at->is_regular_file()) continue;
    FL_LET(auto data, read_file(at->path()));
    struct stat info{};
    if (stat(at->path().c_str(), &info) != 0) return fail_errno(errno, "stat " + at->path().string());
    found[at->path().lexically_relative(root)] = {std::move(data), info.st_mode & 07777, info.st_uid};
  }
  if (error) return fail_errno(error.value(), fmt::format("read {}", root.string()));
  return found;
}

// Whether the files are there as wanted; an owner counts where one is wanted.
bool same(const Payload& found, const Payload& wanted) {
  return std::ranges::equal(found, wanted, [](const auto& have, const auto& want) {
    return have.first == want.first && have.second.data == want.second.data && have.second.mode == want.second.mode &&
           (!want.second.user || have.second.user == want.second.user);
  });
}

// "" where `name` is no symlink.
std::string link_target(int dir, const std::string& name) {
  std::string target(PATH_MAX, '\0');
  const auto size = readlinkat(dir, name.c_str(), target.data(), target.size());
  target.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
  return target;
}

// A fresh folder, named by the time as kubelet's are.
Result<std::string> make_data_folder(int dir, const std::string& path) {
  std::random_device random;
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm utc{};
  gmtime_r(&now, &utc);
  char stamp[32];
  std::strftime(stamp, sizeof stamp, "..%Y_%m_%d_%H_%M_%S.", &utc);
  for (int tries = 0; tries < 100; ++tries) {
    std::string name = stamp + std::to_string(random());
    if (mkdirat(dir, name.c_str(), 0755) == 0) return name;
    if (errno != EEXIST) return fail_errno(errno, fmt::format("mkdir {}/{}", path, name));
  }
  return fail(Code::kExists, "mkdir {}/{}*: every name is taken", path, stamp);
}

Result<> give_to(int fd, const std::string& path, std::optional<mode_t> mode, std::optional<uid_t> uid,
                 std::optional<gid_t> gid) {
  constexpr auto kAsItIs = static_cast<uid_t>(-1);
  // chown first: it clears set-id bits.
  if ((uid || gid) && fchown(fd, uid.value_or(kAsItIs), gid.value_or(kAsItIs)) != 0) {
    return fail_errno(errno, "chown " + path);
  }
  if (mode && fchmod(fd, *mode) != 0) return fail_errno(errno, "chmod " + path);
  return {};
}

Result<> write_file(int root, const std::string& root_path, const std::string& path, const PayloadFile& file,
                    std::optional<gid_t> gid) {
  const std::string shown = root_path + "/" + path;
  for (auto slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    const std::string parent = path.substr(0, slash);
    if (mkdirat(root, parent.c_str(), 0755) != 0 && errno != EEXIST) {
      return fail_errno(errno, fmt::format("mkdir {}/{}", root_path, parent));
    }
    const UniqueFd fd(openat(root, parent.c_str(), O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) return fail_errno(errno, fmt::format("open {}/{}", root_path, parent));
    FL_TRY(give_to(fd.get(), shown, 0755, {}, gid));
  }
  const UniqueFd fd(openat(root, path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) return fail_errno(errno, "create " + shown);
  for (std::size_t at = 0; at < file.data.size();) {
    const auto wrote = write(fd.get(), file.data.data() + at, file.data.size() - at);
    if (wrote < 0) return fail_errno(errno, "write " + shown);
    at += static_cast<std::size_t>(wrote);
  }
  return give_to(fd.get(), shown, file.mode, file.user, gid);
}

Result<> fill(int dir, const std::string& dir_path, const std::string& folder, const Payload& payload,
              std::optional<gid_t> gid) {
  const std::string path = dir_path + "/" + folder;
  const UniqueFd root(openat(dir, folder.c_str(), O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!root) return fail_errno(errno, "open " + path);
  FL_TRY(give_to(root.get(), path, 0755, {}, gid));  // whatever the umask
  for (const auto& [name, file] : payload) FL_TRY(write_file(root.get(), path, name, file, gid));
  return {};
}

// `name` → `target` in `dir`, in place of whatever link there was.
Result<> link_atomically(int dir, const std::string& dir_path, const std::string& name, const std::string& target) {
  unlinkat(dir, kDataTmp, 0);
  if (symlinkat(target.c_str(), dir, kDataTmp) != 0)
    return fail_errno(errno, fmt::format("symlink {}/{}", dir_path, name));
  if (renameat(dir, kDataTmp, dir, name.c_str()) != 0)
    return fail_errno(errno, fmt::format("rename {}/{}", dir_path, name));
  return {};
}

// Links for the first names of the payload's paths, and an end to all else: links of files that went, folders of
// earlier sets, of a crash too.
Result<> tidy(int dir, const std::string& dir_path, const std::string& folder, const Payload& payload) {
  std::set<std::string> wanted;
  for (const auto& [path, file] : payload) wanted.insert(path.substr(0, path.find('/')));
  for (const auto& name : wanted) {
    const std::string target = std::string(kData) + "/" + name;
    if (link_target(dir, name) != target) FL_TRY(link_atomically(dir, dir_path, name, target));
  }
  FL_LET(const auto names, list_names(dir, dir_path));
  for (const auto& name : names) {
    if (name == kData || name == folder || wanted.contains(name)) continue;
    FL_TRY(remove_tree(dir, dir_path, name));
  }
  return {};
}

}  // namespace

Result<std::string> checked_item_path(std::string_view path) {
  if (path.empty()) return fail(Code::kInvalid, "path is empty");
  if (path.starts_with('/')) return fail(Code::kInvalid, "path '{}' is absolute", path);
  if (path.size() >= PATH_MAX)
    return fail(Code::kInvalid, "path has {} bytes, of at most {}", path.size(), PATH_MAX - 1);
  std::string clean;
  for (const auto& part : fs::path(path)) {
    const std::string name = part.string();
    if (name == "..") return fail(Code::kInvalid, "path '{}' holds '..'", path);
    if (name.empty() || name == ".") continue;
    if (name.size() > NAME_MAX || name.contains('\0'))
      return fail(Code::kInvalid, "path '{}': no name for a file", path);
    if (!clean.empty()) clean += '/';
    clean += name;
  }
  if (clean.empty() || clean.starts_with(".."))
    return fail(Code::kInvalid, "path '{}' begins with '..' or names no file", path);
  return clean;
}

Result<bool> write_payload(const std::string& dir_path, const Payload& payload, std::optional<gid_t> gid) {
  const UniqueFd dir(open(dir_path.c_str(), O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!dir) return fail_errno(errno, "open " + dir_path);
  std::string folder = link_target(dir.get(), kData);
  bool changed = true;
  if (!folder.empty()) {
    const auto now = read_back(dir_path + "/" + folder);
    changed = !now || !same(*now, payload);
  }
  if (changed) {
    FL_LET(folder, make_data_folder(dir.get(), dir_path));
    Result<> done = fill(dir.get(), dir_path, folder, payload, gid);
    if (done) done = link_atomically(dir.get(), dir_path, kData, folder);
    if (!done) {
      (void)remove_tree(dir.get(), dir_path, folder);
      return std::unexpected(std::move(done).error());
    }
  }
  FL_TRY(tidy(dir.get(), dir_path, folder, payload));
  return changed;
}

}  // namespace fairlead::pods
