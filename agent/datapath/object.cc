// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/object.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <deque>
#include <vector>

#include "agent/base/log.h"
#include "agent/datapath/map_shape.h"

namespace fairlead::datapath {
namespace {

// What libbpf said of late on this thread: its texts hold the verifier's log, which no error code does.
thread_local std::deque<std::string> libbpf_lines;
constexpr std::size_t kLibbpfLines = 25;

int keep_line(libbpf_print_level level, const char* format, va_list args) {
  if (level == LIBBPF_DEBUG) return 0;
  va_list again;
  va_copy(again, args);
  // A verifier's log has megabytes, and what matters is at its end.
  std::string text(static_cast<std::size_t>(std::max(vsnprintf(nullptr, 0, format, again), 0)), '\0');
  va_end(again);
  vsnprintf(text.data(), text.size() + 1, format, args);
  std::string_view rest(text);
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    if (end != 0) libbpf_lines.emplace_back(rest.substr(0, end));
    if (libbpf_lines.size() > kLibbpfLines) libbpf_lines.pop_front();
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return 0;
}

std::unexpected<Error> fail_libbpf(int sys, std::string what) {
  for (const std::string& line : libbpf_lines) log::warn("datapath", "libbpf", {{"object", what}, {"line", line}});
  if (!libbpf_lines.empty()) what += fmt::format(" ({})", libbpf_lines.back());
  return fail_errno(sys, what + std::string(kernel_way_out(sys)));
}

struct DestroyLink {
  void operator()(bpf_link* link) const { bpf_link__destroy(link); }
};
using LinkPtr = std::unique_ptr<bpf_link, DestroyLink>;

// Makes `map` stand for the one pinned at `path`; false where nothing is pinned there.
Result<bool> take_over(bpf_map* map, const std::string& path, const bpf_object* object) {
  const UniqueFd pinned(bpf_obj_get(path.c_str()));
  if (!pinned) {
    if (errno == ENOENT) return false;
    return fail_errno(errno, fmt::format("map {}: open", path));
  }
  FL_LET(const MapDifference difference, compare(pinned.get(), map, object));
  if (difference.any()) {
    return fail(Code::kConflict, "map {} was made by another version: {}; {}", path, difference.text(), kMapWayOut);
  }
  const int status = bpf_map__reuse_fd(map, pinned.get());
  if (status != 0) return fail_libbpf(-status, fmt::format("map {}: reuse", path));
  return true;
}

}  // namespace

std::string_view kernel_way_out(int sys) {
  switch (sys) {
    case EPERM:
    case EACCES:
      return " (run the agent as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, where BPF is not locked down)";
    case EINVAL:
    case ENOENT:
    case ENOSYS:
    case EOPNOTSUPP:
      return " (it takes Linux 6.1 or newer with CONFIG_BPF_SYSCALL, CONFIG_CGROUP_BPF, CONFIG_NET_CLS_BPF and "
             "CONFIG_NET_SCH_INGRESS)";
    default:
      return "";
  }
}

Result<> load_object(bpf_object* object, const BpfRoot& root) {
  libbpf_lines.clear();
  libbpf_set_print(keep_line);
  std::vector<bpf_map*> made;
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    if (!is_kept(map)) continue;
    FL_LET(const bool taken, take_over(map, root.map_path(bpf_map__name(map)), object));
    if (!taken) made.push_back(map);
  }
  FL_TRY(load_as_it_is(object));
  for (bpf_map* each : made) FL_TRY(pin_map(each, root.map_path(bpf_map__name(each))));
  return {};
}

Result<> load_as_it_is(bpf_object* object) {
  libbpf_lines.clear();
  libbpf_set_print(keep_line);
  const int status = bpf_object__load(object);
  if (status != 0) return fail_libbpf(-status, fmt::format("load BPF object {}", bpf_object__name(object)));
  return {};
}

Result<> pin_map(bpf_map* map, const std::string& path) {
  const int status = bpf_map__pin(map, path.c_str());
  if (status != 0) return fail_libbpf(-status, fmt::format("map {}: pin", path));
  return {};
}

Result<std::vector<ProgramFacts>> program_facts(const bpf_object* object) {
  std::vector<ProgramFacts> out;
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object) {
    bpf_prog_info info{};
    std::uint32_t size = sizeof(info);
    if (bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) != 0) {
      return fail_errno(errno, fmt::format("program {}: info", bpf_program__name(program)));
    }
    out.push_back({info.name, info.id, info.verified_insns});
  }
  return out;
}

Result<> load_sharing(bpf_object* object, const std::function<int(const char* map)>& map_fd) {
  libbpf_lines.clear();
  libbpf_set_print(keep_line);
  const std::string name = bpf_object__name(object);
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    if (bpf_map__is_internal(map)) continue;
    const int status = bpf_map__reuse_fd(map, map_fd(bpf_map__name(map)));
    if (status != 0) return fail_libbpf(-status, fmt::format("map {}: share it with {}", bpf_map__name(map), name));
  }
  return load_as_it_is(object);
}

Result<> attach_pinned(const Attachment& attachment, const BpfRoot& root) {
  libbpf_lines.clear();
  libbpf_set_print(keep_line);
  const std::string path = root.link_path(attachment.name);
  const std::string fresh = path + "~new";  // bpffs refuses dots
  unlink(fresh.c_str());                    // of an agent that died right here
  const LinkPtr pinned(access(path.c_str(), F_OK) == 0 ? bpf_link__open(path.c_str()) : nullptr);
  if (pinned != nullptr && attachment.same_place(bpf_link__fd(pinned.get()))) {
    const int status = bpf_link__update_program(pinned.get(), attachment.program);
    if (status != 0) return fail_libbpf(-status, fmt::format("link {}: change its program", path));
    return {};
  }
  const LinkPtr link(attachment.attach());
  if (link == nullptr) return fail_libbpf(errno, fmt::format("link {}: attach", path));
  if (bpf_obj_pin(bpf_link__fd(link.get()), fresh.c_str()) != 0 || rename(fresh.c_str(), path.c_str()) != 0) {
    return fail_errno(errno, fmt::format("link {}: pin", path));
  }
  // A link to another place ends once the new one is safe: now, not when the kernel gets to it. One whose place is gone
  // has ended already.
  if (pinned != nullptr) (void)bpf_link__detach(pinned.get());
  return {};
}

Attachment cgroup_attachment(bpf_program* program, int cgroup_fd) {
  return {
      .name = bpf_program__name(program),
      .program = program,
      .same_place =
          [program, cgroup_fd](int link_fd) {
            bpf_link_info info{};
            std::uint32_t size = sizeof(info);
            struct stat cgroup{};
            // A cgroup's id is its inode; a link whose cgroup is gone says 0.
            return bpf_obj_get_info_by_fd(link_fd, &info, &size) == 0 && fstat(cgroup_fd, &cgroup) == 0 &&
                   info.type == BPF_LINK_TYPE_CGROUP && info.cgroup.cgroup_id == cgroup.st_ino &&
                   info.cgroup.attach_type == static_cast<std::uint32_t>(bpf_program__expected_attach_type(program));
          },
      .attach = [program, cgroup_fd] { return bpf_program__attach_cgroup(program, cgroup_fd); },
  };
}

}  // namespace fairlead::datapath
