// SPDX-License-Identifier: Apache-2.0
#include "bench/prog/driver.h"

#include <bpf/bpf.h>
#include <drive.skel.h>

#include <algorithm>
#include <ctime>

namespace fairlead::bench {
namespace {

constexpr std::uint32_t kScatter = 0x9E3779B1;  // odd

// This thread's own time: what else runs on the machine does not count.
double now_ns() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

}  // namespace

void Driver::Destroy::operator()(drive_bpf* skeleton) const {
  drive_bpf::destroy(skeleton);
}
Driver::Driver(drive_bpf* skeleton) : skeleton_(skeleton) {}
Driver::~Driver() = default;

Result<std::unique_ptr<Driver>> Driver::open() {
  std::unique_ptr<Driver> driver(new Driver(drive_bpf::open_and_load()));
  if (driver->skeleton_ == nullptr) return fail_errno(errno, "load BPF object drive");
  const std::uint32_t slot = DRIVE_NOTHING;
  const int nothing = bpf_program__fd(driver->skeleton_->progs.nothing);
  if (bpf_map_update_elem(bpf_map__fd(driver->skeleton_->maps.targets), &slot, &nothing, BPF_ANY) != 0)
    return fail_errno(errno, "map targets: update");
  return driver;
}

Result<> Driver::use(int program_fd, const Traffic& traffic) {
  const std::uint32_t slot = DRIVE_PROGRAM;
  if (bpf_map_update_elem(bpf_map__fd(skeleton_->maps.targets), &slot, &program_fd, BPF_ANY) != 0)
    return fail_errno(errno, "map targets: update");
  traffic_ = traffic;
  if (traffic_.frame.size() < DRIVE_FRAME) return fail(Code::kInvalid, "a frame of {} bytes", traffic_.frame.size());
  drive& config = skeleton_->data->drive;
  std::copy_n(traffic.frame.begin(), DRIVE_FRAME, config.frame);
  config.next = 0;
  config.stride = traffic.scattered ? kScatter : 1;
  config.mask = traffic.flows - 1;
  config.low_at = traffic.low_at;
  config.high_at = traffic.high_at;
  config.low_port = traffic.low_port;
  config.high_port = traffic.high_port;
  return {};
}

Result<double> Driver::run(std::uint32_t packets, drive_target target) {
  skeleton_->data->drive.target = target;
  __sk_buff context{};
  context.ifindex = traffic_.ifindex;
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = traffic_.frame.data(),
              .data_size_in = static_cast<__u32>(traffic_.frame.size()), .ctx_in = &context,
              .ctx_size_in = sizeof(context), .repeat = static_cast<int>(packets));
  const double start = now_ns();
  const int status = bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.drive_program), &options);
  const double took = now_ns() - start;
  if (status != 0) return fail_errno(-status, "BPF_PROG_RUN");
  action_ = static_cast<int>(options.retval);
  if (action_ < 0) return fail(Code::kSystem, "the measured program was not called");
  return took / packets;
}

Result<Estimate> Driver::measure(std::size_t rounds, std::uint32_t packets) {
  Result<double> last = run(packets);  // warm
  const auto take = [&](drive_target target) {
    if (last) last = run(packets, target);
    return last ? *last : 0.0;
  };
  const Estimate result = compare(rounds, [&] { return take(DRIVE_PROGRAM); }, [&] { return take(DRIVE_NOTHING); });
  if (!last) return std::unexpected(last.error());
  FL_TRY(run(packets));  // so that action() is the program's
  return result;
}

}  // namespace fairlead::bench
