// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/host_ports.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "test/unit/pods/pod.h"

namespace fairlead::pods {
namespace {

using Answer = HostPortAdmission::Answer;

k8s::Pod taking(const std::string& name, int port, std::int64_t created = 0) {
  k8s::Pod pod = make_pod();
  pod.mutable_metadata()->set_name(name);
  pod.mutable_metadata()->mutable_creationtimestamp()->set_seconds(created);
  auto& taken = *pod.mutable_spec()->mutable_containers(0)->add_ports();
  taken.set_containerport(8080);
  taken.set_hostport(port);
  return pod;
}

TEST(HostPorts, AreThoseOfAllContainers) {
  k8s::Pod pod = make_pod("Always", {"a", "b"}, {"init"});
  const auto add = [](k8s::Container& container, int host, const std::string& protocol, const std::string& ip) {
    auto& port = *container.add_ports();
    port.set_containerport(1);
    port.set_hostport(host);
    port.set_protocol(protocol);
    port.set_hostip(ip);
  };
  add(*pod.mutable_spec()->mutable_containers(0), 80, "", "");
  add(*pod.mutable_spec()->mutable_containers(0), 0, "TCP", "");
  add(*pod.mutable_spec()->mutable_containers(1), 81, "UDP", "fd00::1");
  add(*pod.mutable_spec()->mutable_initcontainers(0), 82, "TCP", "");  // is gone before the pod serves
  std::vector<std::string> found;
  for (const HostPort& port : host_ports(pod.spec())) found.push_back(port.str());
  EXPECT_THAT(found, testing::ElementsAre("*:80/TCP", "[fd00::1]:81/UDP"));
}

TEST(HostPorts, CollideAsTheSchedulersDo) {
  const auto port = [](const std::string& ip, int number, Protocol protocol = Protocol::kTcp) {
    return HostPort{ip, static_cast<std::uint16_t>(number), 1, protocol};
  };
  EXPECT_TRUE(collide(port("", 80), port("", 80)));
  EXPECT_TRUE(collide(port("10.0.0.1", 80), port("", 80)));
  EXPECT_TRUE(collide(port("0.0.0.0", 80), port("10.0.0.1", 80)));
  EXPECT_TRUE(collide(port("10.0.0.1", 80), port("10.0.0.1", 80)));
  EXPECT_FALSE(collide(port("10.0.0.1", 80), port("10.0.0.2", 80)));
  EXPECT_FALSE(collide(port("", 80), port("", 81)));
  EXPECT_FALSE(collide(port("", 80), port("", 80, Protocol::kUdp)));
}

class HostPortAdmissionTest : public testing::Test {
 protected:
  Loop loop;
  HostPortAdmission admission{loop};
  std::vector<std::string> told;  // uids that may ask again

  HostPortAdmission::Verdict ask(const std::string& uid, bool ran = false) {
    return admission.ask(uid, ran, [this, uid] { told.push_back(uid); });
  }
  std::vector<std::string> news() {
    loop.poll();
    return std::exchange(told, {});
  }
};

TEST_F(HostPortAdmissionTest, WhoComesSecondIsRefused) {
  admission.enter("a", taking("a", 80));
  EXPECT_EQ(ask("a").answer, Answer::kAdmitted);
  admission.enter("b", taking("b", 80));
  const auto verdict = ask("b");
  EXPECT_EQ(verdict.answer, Answer::kRefused);
  EXPECT_EQ(verdict.why, "*:80/TCP is pod ns/a's");
  EXPECT_EQ(ask("a").answer, Answer::kAdmitted);
  admission.enter("c", taking("c", 81));
  EXPECT_EQ(ask("c").answer, Answer::kAdmitted);
  EXPECT_EQ(ask("takes none").answer, Answer::kAdmitted);
}

TEST_F(HostPortAdmissionTest, WhatIsLeftIsFree) {
  admission.enter("a", taking("a", 80));
  EXPECT_EQ(ask("a").answer, Answer::kAdmitted);
  admission.leave("a");
  admission.enter("b", taking("b", 80));
  EXPECT_EQ(ask("b").answer, Answer::kAdmitted);
}

TEST_F(HostPortAdmissionTest, APodThatRanKeepsWhatItHas) {
  admission.enter("new", taking("new", 80, 1));  // older, but it never ran
  admission.enter("old", taking("old", 80, 2));
  EXPECT_EQ(ask("new").answer, Answer::kWait);
  EXPECT_THAT(news(), testing::IsEmpty());
  EXPECT_EQ(ask("old", true).answer, Answer::kAdmitted);
  EXPECT_THAT(news(), testing::ElementsAre("new"));
  EXPECT_EQ(ask("new").answer, Answer::kRefused);
}

TEST_F(HostPortAdmissionTest, OfPodsThatNeverRanTheOlderGetsIt) {
  admission.enter("young", taking("young", 80, 2));
  admission.enter("old", taking("old", 80, 1));
  EXPECT_EQ(ask("young").answer, Answer::kWait);
  EXPECT_EQ(ask("old").answer, Answer::kAdmitted);
  EXPECT_THAT(news(), testing::ElementsAre("young"));
  EXPECT_EQ(ask("young").answer, Answer::kRefused);
}

TEST_F(HostPortAdmissionTest, WhoWaitsForTheYoungerGoesFirst) {
  admission.enter("old", taking("old", 80, 1));
  admission.enter("young", taking("young", 80, 2));
  EXPECT_EQ(ask("old").answer, Answer::kWait);  // the younger may run
  EXPECT_EQ(ask("young").answer, Answer::kWait);
  EXPECT_THAT(news(), testing::Contains("old"));
  EXPECT_EQ(ask("old").answer, Answer::kAdmitted);
  EXPECT_EQ(ask("young").answer, Answer::kRefused);
}

TEST_F(HostPortAdmissionTest, AWaitEndsWithWhatIsWaitedFor) {
  admission.enter("a", taking("a", 80, 1));
  admission.enter("b", taking("b", 80, 2));
  EXPECT_EQ(ask("b").answer, Answer::kWait);
  admission.leave("a");
  EXPECT_THAT(news(), testing::ElementsAre("b"));
  EXPECT_EQ(ask("b").answer, Answer::kAdmitted);
}

}  // namespace
}  // namespace fairlead::pods
