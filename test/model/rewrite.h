// SPDX-License-Identifier: Apache-2.0
// What the packet path changes in packets, and what it answers in place of a Service.
#pragma once

#include "agent/base/mac.h"
#include "test/model/parse.h"

namespace fairlead::model {

// The packet goes from `source` to `destination` now; its checksums are as right as they were. False where that cannot
// be: the CRC of a first fragment of SCTP covers what comes later.
bool translate(Bytes& frame, const Packet& packet, const End& source, const End& destination);

// The same for the packet within an ICMP error that is `outer`; ICMP's checksum covers it.
void translate_inner(Bytes& frame, const Packet& outer, const Packet& inner, const End& source, const End& destination);

// The error itself goes from and to these addresses.
void translate_error(Bytes& frame, const Packet& outer, const IpAddress& source, const IpAddress& destination);

// One hop less, and the frame that the veth of the pod with these addresses would carry.
void route(Bytes& frame, const IpHeaders& ip, const Mac& to, const Mac& from);

// The RST or ICMP port unreachable for a packet that is rejected; nothing where there is no answer.
std::optional<Bytes> answer(const Bytes& frame, const Packet& packet);

}  // namespace fairlead::model
