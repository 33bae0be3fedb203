// SPDX-License-Identifier: Apache-2.0
#include "test/kit/own_node.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string>

#include "agent/base/unique_fd.h"
#include "test/kit/cgroup.h"
#include "test/kit/process.h"

namespace fairlead::testkit {
namespace {

// In there: a child tells the cgroup's name, and both stay.
int live(int told) {
  const auto group = TestCgroup::make(std::string(kCgroup2) + "/" + node_cgroup(), "inner");
  if (!group || !group->enter()) return 1;
  if (fork() == 0) (void)!write(told, node_cgroup().c_str(), node_cgroup().size());
  while (true) pause();
}

TEST(OwnNode, LeavesNothingHoweverItEnds) {
  for (const int signal : {SIGKILL, SIGTERM}) {
    std::array<int, 2> ends{};
    ASSERT_EQ(pipe(ends.data()), 0);
    const UniqueFd tells(ends[0]);
    UniqueFd told(ends[1]);
    const pid_t node = fork();
    if (node == 0) _exit(run_as_node([&] { return live(told.get()); }));
    told.reset();
    std::array<char, 64> name{};
    ASSERT_GT(read(tells.get(), name.data(), name.size() - 1), 0);
    EXPECT_FALSE(cgroups_named(name.data()).empty());
    EXPECT_EQ(kill(node, signal), 0);
    EXPECT_EQ(waitpid(node, nullptr, 0), node);
    EXPECT_TRUE(eventually([&] { return cgroups_named(name.data()).empty(); })) << name.data();
    pollfd left{.fd = tells.get(), .events = POLLIN, .revents = 0};  // while anybody has the other end
    EXPECT_EQ(poll(&left, 1, 10'000), 1);
  }
}

}  // namespace
}  // namespace fairlead::testkit
