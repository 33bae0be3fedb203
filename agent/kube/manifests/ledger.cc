// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/manifests/ledger.h"

#include <algorithm>
#include <set>
#include <utility>

#include "agent/base/result.h"

namespace fairlead::kube {
namespace {

// Moves objects that an earlier one of the same file names already to the refusals.
void refuse_repeats(ManifestContent& content) {
  std::map<std::string, unsigned> first;
  std::vector<ManifestObject> unique;
  for (ManifestObject& object : content.objects) {
    const auto [at, fresh] = first.emplace(object.place.key(), object.place.document);
    if (fresh) {
      unique.push_back(std::move(object));
    } else {
      const std::string why = fmt::format("already defined in document {} of this file", at->second);
      content.refusals.push_back({object.place, {{"metadata.name", why, object.place.line}}});
    }
  }
  content.objects = std::move(unique);
}

}  // namespace

void Ledger::update(const std::string& path, ManifestContent content) {
  refuse_repeats(content);
  File& file = files_[path];
  std::set<std::string> good;
  for (const ManifestObject& object : content.objects) good.insert(object.place.key());
  std::set<std::string> bad;
  bool nameless = !content.whole;
  for (const ManifestRefusal& refusal : content.refusals) {
    bad.insert(refusal.place.key());
    nameless = nameless || refusal.place.key().empty();
  }
  for (ManifestObject& old : file.objects) {
    const std::string key = old.place.key();
    if (good.contains(key) || !(nameless || bad.contains(key))) continue;
    old.kept = true;
    old.place.document = 0;
    old.place.line = 0;
    old.place.item.reset();
    content.objects.push_back(std::move(old));
  }
  file = {std::move(content.objects), std::move(content.refusals)};
}

void Ledger::restore(const std::string& path, std::vector<ManifestObject> objects) {
  for (ManifestObject& object : objects) {
    owners_.emplace(object.place.key(), path);
    object.kept = true;
  }
  files_[path].objects = std::move(objects);
}

void Ledger::settle() {
  in_force_.clear();
  duplicates_.clear();
  std::map<std::string, std::vector<InForce>> claims;
  for (const auto& [path, file] : files_) {
    for (const ManifestObject& object : file.objects) claims[object.place.key()].push_back({&object, &path});
  }
  std::map<std::string, std::string> owners;
  for (const auto& [key, claimants] : claims) {
    const auto before = owners_.find(key);
    auto owner = std::ranges::find_if(
        claimants, [&](const InForce& claim) { return before != owners_.end() && *claim.path == before->second; });
    if (owner == claimants.end()) owner = claimants.begin();
    in_force_.emplace(key, *owner);
    owners.emplace(key, *owner->path);
    for (const InForce& claim : claimants) {
      if (claim.path != owner->path) duplicates_.push_back({claim.object, claim.path, *owner->path});
    }
  }
  owners_ = std::move(owners);
}

}  // namespace fairlead::kube
