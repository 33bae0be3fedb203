// SPDX-License-Identifier: Apache-2.0
// ClusterIpAllocator: what the API server does for a Service without a clusterIP, for a node that lives on manifests.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/result.h"
#include "agent/model/rows.h"

namespace fairlead::services {

// Addresses from the service CIDRs (at most one a family; the first is the primary). An address follows from the
// Service's name and what is taken, so that it mostly comes out the same again should the file be lost; dynamic
// addresses keep out of a range's first 16 to 256 while they can, as the API server's do (KEP-3070).
//
// Owner and thread: the services domain on its loop. Cost: O(log Services) an address, O(range) where it is nearly
// full. File: {"version": 1, "clusterIPs": {"namespace/service": ["10.96.0.10"]}}.
class ClusterIpAllocator {
 public:
  // Takes up what `path` remembers; a missing file is an empty one. A file that cannot be understood is logged, moved
  // to PATH.corrupt and forgotten. Remembered addresses outside `ranges` are forgotten. Fails where the file cannot be
  // read.
  static Result<ClusterIpAllocator> open(std::vector<Cidr> ranges, std::string path);

  // All addresses of `service`, those that it declares first; it keeps them until release(), or until it declares
  // others. kConflict: a declared address is another Service's (the text names both). kInvalid: it lies outside the
  // ranges, or the Service wants a family that has no range. kExhausted: the range is full. On failure it keeps what it
  // had.
  Result<std::vector<IpAddress>> assign(const model::Service& service);

  // Forgets the Service's addresses. Releasing what is not there is fine.
  void release(const std::string& service_key);
  // Forgets all Services but these; once all that are declared are known.
  void retain(const std::set<std::string>& service_keys);

  // True where the file does not yet say what is in force.
  bool changed() const { return changed_; }
  // Writes the file if changed(). A few KiB and an fsync.
  Result<> save();

 private:
  ClusterIpAllocator(std::vector<Cidr> ranges, std::string path) : ranges_(std::move(ranges)), path_(std::move(path)) {}
  // Takes up a file's text: all of it or nothing.
  Result<> load(const std::string& text);
  const Cidr* range_of(Family family) const;
  Result<> check_declared(const model::Service& service, const IpAddress& address) const;
  Result<IpAddress> find_free(const std::string& service_key, const Cidr& range) const;

  std::vector<Cidr> ranges_;
  std::string path_;
  std::map<std::string, std::vector<IpAddress>> held_;  // by Service key
  std::map<IpAddress, std::string> owner_;              // the same, by address
  bool changed_ = false;
};

}  // namespace fairlead::services
