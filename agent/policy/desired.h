// SPDX-License-Identifier: Apache-2.0
// Desired: what the policy maps should hold, kept up to date by changes of namespaces, policies and pods. Without I/O
// and clock.
//
// An address has an identity: a number for the class of its pod (namespace, labels, named ports) and the lists of
// ipBlocks that hold it; a CIDR has one for its lists alone. A number is never given to anything else, as long as this
// object lives. A rule set has a number for what it says; pods with equal rules share it, and peers come and go in it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "agent/datapath/policy_maps.h"
#include "agent/model/rows.h"
#include "agent/policy/blocks.h"
#include "agent/policy/rules.h"

namespace fairlead::policy {

struct IdentityEntry {
  datapath::Identity number = 0;
  const PeerClass* peers = nullptr;  // null: of CIDRs
  Lists lists{};
  std::size_t members = 0;  // addresses and CIDRs that should have it
};

struct RuleSetEntry {
  datapath::RuleSetId number = 0;
  RuleSpec spec{};
  datapath::RuleSet wanted{};              // any_peer is joined
  std::set<datapath::Identity> changed{};  // peers that differ from what was taken last
  std::size_t pods = 0;                    // sides of pods of this node that should have it
};

// A pod of this node.
struct OwnPod {
  model::PeerPod pod;
  std::set<std::string> policies{};                   // that select it
  const RuleSetEntry* rules[2] = {nullptr, nullptr};  // by Direction; null: not isolated
};

// Owner: the policy domain. Thread: its loop's. Cost: a changed pod costs its addresses, and, where nobody was like it
// before, one look at each rule set; a changed policy costs the pods of this node in its namespace; a changed list of
// ipBlocks, all prefixes and addresses.
class Desired {
 public:
  explicit Desired(std::string node) : node_(std::move(node)) {}

  // Rows; nullptr: gone. Pods on this node count by set_own() and set_endpoint() alone.
  void set_namespace(const std::string& name, std::shared_ptr<const model::Namespace> row);
  void set_policy(const std::string& key, std::shared_ptr<const model::NetworkPolicy> row);
  void set_peer(const std::string& uid, std::shared_ptr<const model::PeerPod> row);
  // A pod whose row is gone stays what it was as long as it has an endpoint.
  void set_own(const std::string& uid, std::shared_ptr<const model::PeerPod> row);
  void set_endpoint(const std::string& key, std::shared_ptr<const model::ServedNetns> row);

  // From here on numbers count. What `maps` hold keeps its number where it means the same.
  void start(const datapath::PolicyContents& maps);

  // What may differ since the last call.
  struct Changes {
    std::set<IpAddress> addresses{};
    bool cidrs = false;
    std::set<datapath::RuleSetId> rules{};  // sets whose peers changed
    std::set<std::string> pods{};           // of this node, by uid
  };
  Changes take_changes();

  std::optional<datapath::Identity> identity(const IpAddress& address) const;
  // What the CIDRs make of an address that has no entry of its own.
  datapath::Identity identity_by_blocks(const IpAddress& address) const;
  const std::map<Cidr, datapath::Identity>& cidrs() const { return cidrs_; }
  RuleSetEntry* rule_set(datapath::RuleSetId number);
  const OwnPod* own_pod(const std::string& uid) const;
  const std::map<std::string, OwnPod>& own_pods() const { return own_; }
  const std::map<std::string, CompiledPolicy>& policies() const { return policies_; }
  const std::map<datapath::RuleSetId, std::unique_ptr<RuleSetEntry>>& rule_sets() const { return rule_sets_; }
  const std::map<datapath::Identity, std::unique_ptr<IdentityEntry>>& identities() const { return identities_; }
  const BlockTable& blocks() const { return blocks_; }
  // As this node's endpoints have them.
  std::vector<IpAddress> own_addresses(const std::string& uid) const;
  // The pod of the cluster that has this name, or that has this address.
  const model::PeerPod* find_pod(const std::string& key) const;
  const model::PeerPod* find_pod(const IpAddress& address) const;
  model::Labels namespace_labels(const std::string& name) const;

  // For whoever knows that nothing in the maps uses them any more.
  void drop_rule_set(datapath::RuleSetId number);
  void drop_identity(datapath::Identity number);
  // Numbers of rule sets are few: one that was dropped may be given again from now on.
  void release_rule_set_number(datapath::RuleSetId number) { taken_numbers_.erase(number); }

 private:
  struct Claim {
    std::string uid;
    const PeerClass* peers;
    bool own;
  };
  struct Address {
    std::vector<Claim> claims{};
    bool own_node = false;
    IdentityEntry* identity = nullptr;
  };
  struct Subject {
    model::PeerPod pod;
    const PeerClass* peers = nullptr;
    std::vector<IpAddress> claimed{};
    bool own = false;
  };

  void set_subject(const std::string& uid, const model::PeerPod* pod, bool own,
                   const std::vector<IpAddress>& addresses);
  void refresh_own(const std::string& uid);
  std::vector<IpAddress> endpoint_addresses(const model::ObjectId& pod) const;
  void refresh_address(const IpAddress& address);
  const PeerClass* intern(const model::PeerPod& pod);
  void release(const PeerClass* peers);
  const std::set<IdentityEntry*>& identities_of(const PeerClass* peers) const;
  IdentityEntry* identity_for(const PeerClass* peers, const Lists& lists);
  bool selects(const CompiledPolicy& policy, const model::PeerPod& pod) const;
  void compute_pod(const std::string& uid);
  const RuleSetEntry* rule_set_for(RuleSpec spec);
  void use_terms(RuleSetEntry& set);
  void fill(RuleSetEntry& set);
  bool reaches(const CompiledRule& rule, const IdentityEntry& identity) const;
  Ranges ranges(const RuleSetEntry& set, const IdentityEntry& identity) const;
  void refresh_pair(RuleSetEntry& set, const IdentityEntry& identity);
  void refresh_blocks();
  void settle();
  void adopt_identities(const datapath::PolicyContents& maps);
  void adopt_rule_sets(const datapath::PolicyContents& maps);

  std::string node_;
  bool started_ = false;
  Interner interner_;
  std::map<std::string, std::shared_ptr<const model::Namespace>> namespaces_;
  std::map<std::string, CompiledPolicy> policies_;
  std::map<std::string, std::set<std::string>> policies_of_;  // namespace → keys
  std::map<std::string, std::shared_ptr<const model::PeerPod>> own_rows_;
  std::map<std::string, std::shared_ptr<const model::ServedNetns>> endpoints_;
  std::map<std::string, OwnPod> own_;
  std::map<std::string, std::set<std::string>> own_of_;  // namespace → uids
  std::unordered_map<std::string, Subject> subjects_;    // by uid
  std::map<std::string, std::set<std::string>> subjects_by_name_;
  std::map<IpAddress, Address> addresses_;

  std::map<PeerClass, std::size_t> classes_;  // and how many subjects are of each
  std::unordered_map<const PeerClass*, std::set<IdentityEntry*>> identities_of_;
  std::map<std::string, std::set<const PeerClass*>> classes_of_;  // namespace → its classes
  std::map<std::pair<const PeerClass*, Lists>, IdentityEntry*> identity_of_;
  std::map<datapath::Identity, std::unique_ptr<IdentityEntry>> identities_;
  datapath::Identity next_identity_ = datapath::kOwnNode + 1;
  IdentityEntry own_node_{.number = datapath::kOwnNode};

  std::map<ListId, BlockList*> lists_;                  // that a rule set has
  std::map<ListId, std::set<IdentityEntry*>> holders_;  // identities by list
  BlockTable blocks_;
  bool blocks_changed_ = false;
  std::map<Cidr, datapath::Identity> cidrs_;
  std::map<Cidr, IdentityEntry*> cidr_entries_;

  std::map<std::string, RuleSetEntry*> rule_set_by_text_;
  std::map<datapath::RuleSetId, std::unique_ptr<RuleSetEntry>> rule_sets_;
  std::set<datapath::RuleSetId> taken_numbers_;
  std::set<Term*> active_terms_;
  std::set<std::string> dirty_pods_;  // uids whose rules are to be computed
  Changes changes_;
};

}  // namespace fairlead::policy
