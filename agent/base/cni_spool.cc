// SPDX-License-Identifier: Apache-2.0
#include "agent/base/cni_spool.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>

#include "agent/base/atomic_file.h"

namespace fairlead {
namespace {

using nlohmann::json;

constexpr std::size_t kContainerLimit = 128;  // an alias of a device has 255 bytes; runtimes use 64
constexpr std::size_t kIfnameLimit = 15;
constexpr std::string_view kEnding = ".del";

std::string spool_folder(const std::string& run_dir) {
  return run_dir + "/cni-spool";
}

Result<> make_folder(const std::string& path) {
  if (mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return {};
  return fail_errno(errno, fmt::format("make folder {}", path));
}

Result<SpooledDel> parse(const std::string& path) {
  FL_LET(const std::string text, read_file(path));
  const json record = json::parse(text, nullptr, false);
  if (!record.is_object()) return fail(Code::kInvalid, "{}: not a JSON object", path);
  const auto word = [&record](const char* name) {
    const auto at = record.find(name);
    return at != record.end() && at->is_string() ? at->get<std::string>() : std::string();
  };
  if (word("boot") != boot_id()) return fail(Code::kInvalid, "{}: of an earlier boot", path);
  SpooledDel del{.container = word("container"), .ifname = word("ifname"), .path = path};
  const auto asked = record.find("askedNs");
  if (!is_container_id(del.container) || !is_interface_name(del.ifname) || asked == record.end() ||
      !asked->is_number_integer()) {
    return fail(Code::kInvalid, "{}: names no attachment", path);
  }
  del.asked_ns = asked->get<std::int64_t>();
  return del;
}

}  // namespace

bool is_container_id(const std::string& text) {
  return !text.empty() && text.size() <= kContainerLimit && std::isalnum(static_cast<unsigned char>(text[0])) != 0 &&
         std::ranges::all_of(text,
                             [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '.' || c == '-'; });
}

bool is_interface_name(const std::string& text) {
  return !text.empty() && text.size() <= kIfnameLimit && text != "." && text != ".." &&
         std::ranges::none_of(text, [](unsigned char c) { return c == '/' || c == ':' || std::isspace(c) != 0; });
}

std::int64_t boot_time_ns() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

std::string boot_id() {
  std::string id = read_file("/proc/sys/kernel/random/boot_id").value_or("");
  while (!id.empty() && id.back() == '\n') id.pop_back();
  return id;
}

Result<> spool_del(const std::string& run_dir, const std::string& container, const std::string& ifname,
                   std::int64_t asked_ns) {
  FL_TRY(make_folder(run_dir));
  FL_TRY(make_folder(spool_folder(run_dir)));
  const json record{{"boot", boot_id()}, {"container", container}, {"ifname", ifname}, {"askedNs", asked_ns}};
  // A name of its own: plugins may write at the same time. It does not outlive the boot, so it need not reach the disk.
  const std::string path = fmt::format("{}/{:020}-{}{}", spool_folder(run_dir), asked_ns, getpid(), kEnding);
  auto written =
      write_atomically(path, record.dump(-1, ' ', false, json::error_handler_t::replace) + "\n", {.durable = false});
  if (!written) unlink((path + ".tmp").c_str());
  return written;
}

Result<Spool> read_spool(const std::string& run_dir) {
  const std::string folder = spool_folder(run_dir);
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(folder.c_str()), closedir);
  if (dir == nullptr) {
    if (errno == ENOENT) return Spool{};
    return fail_errno(errno, fmt::format("open {}", folder));
  }
  Spool spool;
  while (const dirent* entry = readdir(dir.get())) {
    const std::string name = entry->d_name;
    if (!name.ends_with(kEnding)) continue;  // itself, its parent, and what is being written
    if (auto del = parse(folder + "/" + name)) {
      spool.dels.push_back(std::move(*del));
    } else {
      spool.unreadable.push_back(folder + "/" + name);
    }
  }
  std::ranges::sort(spool.dels, {}, &SpooledDel::asked_ns);
  return spool;
}

}  // namespace fairlead
