// SPDX-License-Identifier: Apache-2.0
#include "agent/network/connector.h"

#include <utility>

#include "agent/network/pod_link.h"

namespace fairlead::network {

Result<std::unique_ptr<Connector>> Connector::start(datapath::PodPrograms& programs) {
  FL_LET(netlink::Socket host, netlink::Socket::open());
  return std::unique_ptr<Connector>(new Connector(programs, std::move(host)));
}

Connector::Connector(datapath::PodPrograms& programs, netlink::Socket host)
    : programs_(programs), host_(std::move(host)) {
  thread_.start();
}

void Connector::connect(Job& job, Loop& home, Done done) {
  thread_.loop().post([this, &job, &home, done = std::move(done)]() mutable {
    Result<> connected = carry_out(job);
    home.post([done = std::move(done), connected = std::move(connected)]() mutable { done(std::move(connected)); });
  });
}

Result<> Connector::carry_out(Job& job) {
  FL_TRY(programs_.attach(job.ends.ifindex));
  FL_TRY(limit_rates(host_, job.pod, job.ends, job.attachment));
  FL_TRY(connect_pod_side(job.pod, job.ends.peer_ifindex, job.attachment));
  return connect_host_side(host_, job.ends.ifindex, job.attachment, job.node_ips);
}

}  // namespace fairlead::network
