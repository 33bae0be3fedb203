// SPDX-License-Identifier: Apache-2.0
#include "test/kit/lacking_kernel.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <thread>
#include <vector>

namespace fairlead::testkit {

Result<> on_kernel_that_refuses(std::uint32_t call, std::optional<std::uint32_t> first_argument, int error,
                                const std::function<void()>& task) {
  Result<> arranged;
  std::thread([&] {
    std::vector<sock_filter> code{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
    if (first_argument) {
      code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 3));
      code.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0])));
      code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, *first_argument, 0, 1));
    } else {
      code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1));
    }
    code.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(error)));
    code.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    const sock_fprog filter{static_cast<unsigned short>(code.size()), code.data()};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) != 0) {
      arranged = fail_errno(errno, "refuse a system call");
      return;
    }
    task();
  }).join();
  return arranged;
}

Result<> on_kernel_without(bpf_cmd command, int error, const std::function<void()>& task) {
  return on_kernel_that_refuses(SYS_bpf, static_cast<std::uint32_t>(command), error, task);
}

}  // namespace fairlead::testkit
