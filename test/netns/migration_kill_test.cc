// SPDX-License-Identifier: Apache-2.0
// Agents that are killed in the middle of replacing maps, one after another: packets go on, and the last one finishes.
#include <linux/bpf.h>
#include <sys/syscall.h>

#include <filesystem>

#include "test/kit/killed_child.h"
#include "test/netns/migration_fixture.h"

namespace fairlead::network {
namespace {

using testkit::SystemCall;

const datapath::PodCapacities kWanted{.connections = 200'000,
                                      .translated = 200'000,
                                      .services = {.frontends = 300'000, .services = 300'000, .run_slots = 1U << 20}};

// Where agents die, in the order of migrate_maps(). Each begins with what the ones before it have left.
struct Death {
  const char* when;
  SystemCall at;
};
constexpr Death kDeaths[] = {
    {"with maps that nobody has pinned", {SYS_bpf, BPF_PROG_LOAD, 2}},
    {"with some maps pinned", {SYS_bpf, BPF_OBJ_PIN, 3}},
    {"as it copies what is in a map", {SYS_bpf, BPF_MAP_LOOKUP_BATCH, 2}},
    {"with some hooks of sockets on new programs", {SYS_bpf, BPF_LINK_CREATE, 4}},
    {"with one pod on new programs, and another not", {SYS_sendto, {}, 5}},
    {"as new connections go into the new set", {SYS_membarrier, {}, 2}},
    {"as connections move", {SYS_bpf, BPF_PROG_TEST_RUN, 4}},
    {"as new maps take names", {SYS_rename, {}, 5}},
    {"with all names taken", {SYS_rmdir, {}, 1}},
};

class MigrationKillTest : public MigrationTest {
 protected:
  // An agent starts that wants other sizes, and dies there.
  void die(const Death& death) const {
    const auto killed = testkit::kill_child_at(death.at, [&] {
      const auto root = datapath::BpfRoot::open(path()).value();
      (void)datapath::migrate_maps(root, cgroup_->path(), kWanted);
    });
    ASSERT_TRUE(killed) << death.when << ": " << killed.error().message();
    EXPECT_TRUE(*killed) << death.when << ": it came to its end";
  }
};

TEST_F(MigrationKillTest, TheNextAgentFinishes) {
  under_traffic([&] {
    stop();
    for (const Death& death : kDeaths) die(death);
    restart(kWanted);
  });
  EXPECT_EQ(capacity("ct4_slots"), 200'000U);
  EXPECT_EQ(capacity("runs"), 1U << 20);
  // Nothing is left of those that died, and the next one finds nothing to change.
  for (const char* left : {"/maps~new", "/maps~used", "/maps~ready"}) {
    EXPECT_FALSE(std::filesystem::exists(path() + left)) << left;
  }
  EXPECT_TRUE(datapath::SockPrograms::changed_maps(node_->root(), kWanted.services)->empty());
  EXPECT_TRUE(datapath::BpfPodPrograms::changed_maps(node_->root(), kWanted)->empty());
}

}  // namespace
}  // namespace fairlead::network
