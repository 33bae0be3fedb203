// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>

#include "agent/base/in_flight.h"
#include "agent/base/loop.h"
#include "agent/health/checker.h"

namespace fairlead::health {

// Owner: Agent. Thread: its loop's; gRPC's own threads only post. Each check has a connection of its own, without TLS
// and without a proxy, as a probe must see the server as a new client does. Cost: a channel while it lasts. The
// destructor cancels what runs; nothing answers after it.
class Client final : public Checker {
 public:
  explicit Client(Loop& loop);
  ~Client() override;
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void check(const Check& check, Done done) override;

 private:
  struct Call;
  void ended(std::uint64_t number);

  Loop& loop_;
  std::map<std::uint64_t, std::unique_ptr<Call>> calls_;  // channels end on this thread, never on gRPC's
  std::uint64_t made_ = 0;
  std::shared_ptr<InFlight> in_flight_ = std::make_shared<InFlight>();
  std::shared_ptr<Client*> alive_;  // what gRPC posts finds it empty once this is gone
};

}  // namespace fairlead::health
