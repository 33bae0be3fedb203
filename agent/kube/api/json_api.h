// SPDX-License-Identifier: Apache-2.0
// JsonApi: single objects, read and written as JSON: what a node agent writes is small and rare.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "agent/kube/api/http.h"

namespace fairlead::kube {

using Json = nlohmann::json;

// The text at `pointer` ("/metadata/uid"); empty where there is none.
std::string text_at(const Json& object, const std::string& pointer);

// Thread: the API edge's loop, where `done` runs too. `http` outlives it. Where the server is busy and says when to
// come again (429 or 503 with Retry-After), the request is sent again then, a few times; one that ends before its
// answer is dropped with `http`.
class JsonApi {
 public:
  explicit JsonApi(HttpClient& http) : http_(http) {}

  // The object in the answer; an HTTP status of 400 and above is an error (check_status()).
  using Done = std::function<void(Result<Json>)>;

  void get(const std::string& path, Done done) { send("GET", path, nullptr, "", std::move(done)); }
  void create(const std::string& path, const Json& object, Done done) {
    send("POST", path, object, "application/json", std::move(done));
  }
  void replace(const std::string& path, const Json& object, Done done) {
    send("PUT", path, object, "application/json", std::move(done));
  }
  void patch(const std::string& path, const Json& patch, Done done) {
    send("PATCH", path, patch, "application/strategic-merge-patch+json", std::move(done));
  }
  // `options`: DeleteOptions.
  void remove(const std::string& path, const Json& options, Done done) {
    send("DELETE", path, options, "application/json", std::move(done));
  }

 private:
  void send(const char* method, const std::string& path, const Json& body, const char* type, Done done);
  void send(HttpRequest request, unsigned attempt, Done done);

  HttpClient& http_;
  std::map<std::uint64_t, Subscription> waiting_;  // for the moment that Retry-After named
  std::uint64_t last_wait_ = 0;
};

}  // namespace fairlead::kube
