// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/device_hook.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>

#include "agent/base/unique_fd.h"
#include "agent/datapath/object.h"

namespace fairlead::datapath {
namespace {

// What <linux/bpf.h> of Linux 6.6 calls BPF_TCX_INGRESS, BPF_TCX_EGRESS and BPF_LINK_TYPE_TCX.
constexpr int kTcxIngress = 46;
constexpr int kTcxEgress = 47;
constexpr std::uint32_t kTcxLink = 11;
// … and what it has of a link in bpf_link_info, where older headers know other unions only.
struct TcxLinkInfo {
  std::uint32_t ifindex;  // 0: its device is gone
  std::uint32_t attach_type;
};

// A filter's place among those of others: no usual handle.
constexpr std::uint32_t kPriority = 1;
constexpr std::uint32_t kHandle = 0xfa1e;

int tcx_type(const DeviceHook& hook) {
  return hook.egress ? kTcxEgress : kTcxIngress;
}

std::string name_of(const DeviceHook& hook) {
  return fmt::format("{}_{}", bpf_program__name(hook.program), hook.ifindex);
}

std::unexpected<Error> failed(const DeviceHook& hook, int error, const char* what) {
  return fail_errno(error, fmt::format("device #{}: {} {}{}", hook.ifindex, what, bpf_program__name(hook.program),
                                       kernel_way_out(error)));
}

std::uint32_t program_id(const bpf_program* program) {
  bpf_prog_info info{};
  __u32 size = sizeof(info);
  return bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) == 0 ? info.id : 0;
}

// The program of a TCX link at the hook's place; 0: it is elsewhere, or its device is gone.
std::uint32_t program_there(int link_fd, const DeviceHook& hook) {
  bpf_link_info info{};
  __u32 size = sizeof(info);
  if (bpf_obj_get_info_by_fd(link_fd, &info, &size) != 0 || info.type != kTcxLink) return 0;
  TcxLinkInfo place{};
  std::memcpy(&place, &info.xdp, sizeof(place));
  const bool same = place.ifindex == hook.ifindex && place.attach_type == static_cast<std::uint32_t>(tcx_type(hook));
  return same ? info.prog_id : 0;
}

bpf_tc_hook clsact(const DeviceHook& hook) {
  bpf_tc_hook out{};
  out.sz = sizeof(out);
  out.ifindex = static_cast<int>(hook.ifindex);
  out.attach_point = hook.egress ? BPF_TC_EGRESS : BPF_TC_INGRESS;
  return out;
}

bpf_tc_opts filter() {
  bpf_tc_opts out{};
  out.sz = sizeof(out);
  out.priority = kPriority;
  out.handle = kHandle;
  return out;
}

Result<> attach_filter(const DeviceHook& hook) {
  bpf_tc_hook place = clsact(hook);
  place.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);
  if (const int error = bpf_tc_hook_create(&place); error != 0 && error != -EEXIST) {
    return failed(hook, -error, "add clsact for");
  }
  place = clsact(hook);
  bpf_tc_opts options = filter();
  options.prog_fd = bpf_program__fd(hook.program);
  options.flags = BPF_TC_F_REPLACE;
  if (const int error = bpf_tc_attach(&place, &options); error != 0) return failed(hook, -error, "attach");
  return {};
}

// The program of the filter at the hook's place; 0: there is none.
Result<std::uint32_t> filter_there(const DeviceHook& hook) {
  const bpf_tc_hook place = clsact(hook);
  bpf_tc_opts options = filter();
  const int error = bpf_tc_query(&place, &options);
  // No such filter; no clsact; no such device.
  if (error == -ENOENT || error == -EINVAL || error == -ENODEV) return 0U;
  if (error != 0) return failed(hook, -error, "query");
  return options.prog_id;
}

}  // namespace

Result<> attach_hook(const DeviceHook& hook, const BpfRoot& root) {
  const std::string path = root.link_path(name_of(hook));
  const std::string fresh = path + "~new";
  unlink(fresh.c_str());  // of an agent that died right here
  const UniqueFd pinned(bpf_obj_get(path.c_str()));
  const int program = bpf_program__fd(hook.program);
  if (pinned && program_there(pinned.get(), hook) != 0) {
    if (bpf_link_update(pinned.get(), program, nullptr) != 0) return failed(hook, errno, "change the program of");
    return {};
  }
  const UniqueFd link(
      bpf_link_create(program, static_cast<int>(hook.ifindex), static_cast<bpf_attach_type>(tcx_type(hook)), nullptr));
  if (!link) return errno == EINVAL ? attach_filter(hook) : failed(hook, errno, "attach");
  if (bpf_obj_pin(link.get(), fresh.c_str()) != 0 || rename(fresh.c_str(), path.c_str()) != 0) {
    return failed(hook, errno, "pin the link of");
  }
  return {};
}

Result<bool> is_attached(const DeviceHook& hook, const BpfRoot& root) {
  const UniqueFd pinned(bpf_obj_get(root.link_path(name_of(hook)).c_str()));
  const std::uint32_t program = program_id(hook.program);
  if (pinned) return program_there(pinned.get(), hook) == program;
  FL_LET(const std::uint32_t there, filter_there(hook));
  return there == program;
}

Result<std::set<std::uint32_t>> devices_with(const bpf_program* program, const BpfRoot& root) {
  const std::string prefix = fmt::format("{}_", bpf_program__name(program));
  std::set<std::uint32_t> devices;
  std::error_code error;
  for (std::filesystem::directory_iterator at(root.link_path(""), error), end; !error && at != end;
       at.increment(error)) {
    const std::string name = at->path().filename();
    std::uint32_t ifindex = 0;
    if (!name.starts_with(prefix)) continue;
    const char* last = name.data() + name.size();
    const auto [stop, bad] = std::from_chars(name.data() + prefix.size(), last, ifindex);
    if (bad == std::errc() && stop == last) devices.insert(ifindex);
  }
  if (error) return fail_errno(error.value(), fmt::format("list {}", root.link_path("")));
  return devices;
}

Result<bool> has_filter(const DeviceHook& hook) {
  FL_LET(const std::uint32_t there, filter_there(hook));
  return there != 0;
}

Result<> detach_hook(const DeviceHook& hook, const BpfRoot& root) {
  const std::string path = root.link_path(name_of(hook));
  const UniqueFd pinned(bpf_obj_get(path.c_str()));
  if (pinned) {
    // Now, not when the kernel gets to it. Its device may be gone, and it with that.
    if (program_there(pinned.get(), hook) != 0 && bpf_link_detach(pinned.get()) != 0 && errno != ENOLINK) {
      return failed(hook, errno, "detach");
    }
    if (unlink(path.c_str()) != 0) return failed(hook, errno, "unpin the link of");
    return {};
  }
  FL_LET(const std::uint32_t there, filter_there(hook));
  if (there == 0) return {};
  const bpf_tc_hook place = clsact(hook);
  bpf_tc_opts options = filter();
  if (const int error = bpf_tc_detach(&place, &options); error != 0 && error != -ENOENT) {
    return failed(hook, -error, "detach");
  }
  return {};
}

}  // namespace fairlead::datapath
