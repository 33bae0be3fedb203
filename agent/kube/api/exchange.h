// SPDX-License-Identifier: Apache-2.0
// Exchange: one request on its way, and what has come back of it; between HttpClient and curl.
#pragma once

#include <curl/curl.h>

#include <memory>
#include <string>

#include "agent/kube/api/credentials.h"
#include "agent/kube/api/curl_pool.h"
#include "agent/kube/api/http.h"

namespace fairlead::kube {

// Owner: HttpClient; thread: its loop. Its address is curl's, so it does not move.
struct Exchange {
  HttpClient::CallId id = 0;
  HttpRequest request;
  HttpClient::Done done;
  HttpClient::OnData on_data;
  HttpResponse response;
  std::string url;
  Credential credential;           // that it was sent with
  bool resent = false;             // once, with another credential
  std::shared_ptr<CurlPool> pool;  // it runs in; null: it does not run

  ~Exchange() {
    if (pool) pool->remove(easy_.get());
  }

  // Starts it (anew).
  void run(const ClusterAccess& access, Credential with, std::shared_ptr<CurlPool> in);
  // Its end as curl tells it; it is out of the pool.
  Result<HttpResponse> end(CURLcode code);

 private:
  static std::size_t on_body(char* bytes, std::size_t, std::size_t size, void* self);
  static std::size_t on_header(char* bytes, std::size_t, std::size_t size, void* self);
  void add_header(const std::string& line);
  void set_url(const ClusterAccess& access);
  void set_identity(const ClusterAccess& access);

  struct EasyCleanup {
    void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
  };
  struct ListCleanup {
    void operator()(curl_slist* list) const { curl_slist_free_all(list); }
  };
  std::unique_ptr<CURL, EasyCleanup> easy_;
  std::unique_ptr<curl_slist, ListCleanup> headers_, connect_to_;
  bool refused_by_reader_ = false;
  char error_[CURL_ERROR_SIZE] = {};
};

}  // namespace fairlead::kube
