// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/credentials.h"

#include <sys/stat.h>

#include <utility>

namespace fairlead::kube {
namespace {

// "inode.size.time" of a file, so that a replaced one is told from the old; empty where there is none.
std::string file_stamp(const std::string& path) {
  struct stat info{};
  if (path.empty() || stat(path.c_str(), &info) != 0) return {};
  return fmt::format("{}.{}.{}.{};", info.st_ino, info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
}

}  // namespace

Credentials::Credentials(Loop& loop, const Clock& clock, ClusterAccess access)
    : clock_(clock), access_(std::move(access)) {
  if (access_.exec) plugin_.emplace(loop, *access_.exec, access_);
}

void Credentials::get(Done done) {
  if (!plugin_) {
    auto token = access_.bearer_token();
    if (!token) return done(std::unexpected(std::move(token).error()));
    return done(Credential{std::move(*token), {}, {}});
  }
  if (told_ && (!told_->expires || clock_.wall() < *told_->expires)) return done(told_->credential);
  waiting_.push_back(std::move(done));
  if (waiting_.size() == 1) plugin_->run([this](Result<ExecCredential> answer) { told(std::move(answer)); });
}

void Credentials::told(Result<ExecCredential> answer) {
  if (answer) told_ = *answer;
  for (const Done& done : std::exchange(waiting_, {})) {
    done(answer ? Result<Credential>(answer->credential) : std::unexpected(answer.error()));
  }
}

bool Credentials::refuse(const Credential& credential) {
  if (!plugin_) return false;
  if (told_ && told_->credential == credential) told_.reset();
  return true;
}

std::string Credentials::tls_stamp() const {
  return file_stamp(access_.ca_file) + file_stamp(access_.client_cert_file) + file_stamp(access_.client_key_file) +
         (told_ ? told_->credential.cert_data : std::string());
}

}  // namespace fairlead::kube
