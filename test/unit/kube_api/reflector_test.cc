// SPDX-License-Identifier: Apache-2.0
// The reflector against answers that a real API server cannot be made to give.
#include "agent/kube/api/reflector.h"

#include <gmock/gmock.h>

#include <chrono>
#include <set>

#include "test/unit/kube_api/frames.h"
#include "test/unit/kube_api/scripted_server.h"

namespace fairlead::kube {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

// What a table would hold.
class Names final : public ObjectSink {
 public:
  explicit Names(std::set<std::string>& names) : names_(names) {}
  void begin_list() override { listing_.emplace(); }
  void end_list() override { names_ = *std::exchange(listing_, std::nullopt); }
  Result<> put(const ObjectHead& head, std::string_view) override {
    (listing_ ? *listing_ : names_).insert(head.name);
    return {};
  }
  void remove(const ObjectHead& head) override { (listing_ ? *listing_ : names_).erase(head.name); }

 private:
  std::set<std::string>& names_;
  std::optional<std::set<std::string>> listing_;
};

class ReflectorTest : public testing::Test {
 protected:
  void start(ScriptedServer::Answer answer, Duration stalled_after = 60s) {
    server_.emplace(std::move(answer));
    ClusterAccess access;
    access.server = server_->url();
    http_.emplace(loop_, access);
    ReflectorConfig config;
    config.kind = "Namespace";
    config.path = "/api/v1/namespaces";
    config.stalled_after = stalled_after;
    config.backoff = {.first = 1ms, .limit = 10ms};
    reflector_.emplace(loop_, *http_, config, std::make_unique<Names>(names_), registry_);
    reflector_->start();
  }
  ~ReflectorTest() override {
    reflector_.reset();
    http_.reset();
  }

  bool turn_until(const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + 10s;
    while (!done()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      loop_.poll();
    }
    return true;
  }
  // Each request's line, without the random end of its watch.
  std::vector<std::string> asked() {
    std::vector<std::string> lines;
    for (const std::string& request : server_->requests()) {
      std::string line = request.substr(4, request.find(" HTTP/1.1") - 4);
      lines.push_back(line.substr(0, line.find("&timeoutSeconds")));
    }
    return lines;
  }

  const std::string streamed_ =
      "/api/v1/namespaces?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
  static std::string watched(const std::string& version) {
    return "/api/v1/namespaces?watch=1&allowWatchBookmarks=true&resourceVersion=" + version;
  }

  Loop loop_;
  metrics::Registry registry_;
  std::set<std::string> names_;
  std::optional<ScriptedServer> server_;
  std::optional<HttpClient> http_;
  std::optional<Reflector> reflector_;
};

TEST_F(ReflectorTest, AStreamedListIsTakenWholeAndTheWatchGoesOnInIt) {
  start([](const std::string&) -> ScriptedAnswer {
    // A change may come in the middle of the list.
    return {.body = frame("ADDED", "a") + frame("ADDED", "gone") + frame("DELETED", "gone") + frame("ADDED", "b") +
                    end_of_list("10") + frame("ADDED", "c", "11") + frame("DELETED", "a", "12"),
            .hold = true};
  });
  ASSERT_TRUE(turn_until([&] { return names_.contains("c") && !names_.contains("a"); }));
  EXPECT_THAT(names_, UnorderedElementsAre("b", "c"));
  EXPECT_TRUE(reflector_->listed());
  EXPECT_THAT(reflector_->trouble(), IsEmpty());
  EXPECT_THAT(asked(), ElementsAre(streamed_));
}

TEST_F(ReflectorTest, AStreamThatEndsBeforeItsListIsWholeDeletesNothing) {
  int calls = 0;
  start([&](const std::string&) -> ScriptedAnswer {
    switch (++calls) {
      case 1:
        return {.body = frame("ADDED", "a") + frame("ADDED", "b") + end_of_list("10") + error_frame(410, "too old")};
      case 2:
        return {.body = frame("ADDED", "a")};
      default:
        return {.body = frame("ADDED", "b") + end_of_list("20"), .hold = true};
    }
  });
  std::vector<std::set<std::string>> seen;
  ASSERT_TRUE(turn_until([&] {
    if (!names_.empty() && (seen.empty() || seen.back() != names_)) seen.push_back(names_);
    return names_ == std::set<std::string>{"b"};
  }));
  EXPECT_THAT(seen, ElementsAre(UnorderedElementsAre("a", "b"), UnorderedElementsAre("b")));
  EXPECT_THAT(asked(), ElementsAre(streamed_, streamed_, streamed_));
}

TEST_F(ReflectorTest, PagesAreReadWhereStreamsAreRefusedAndAllAtOnceWhereTheyRunOut) {
  start([](const std::string& request) -> ScriptedAnswer {
    if (request.find("sendInitialEvents") != request.npos)
      return {.status = 422, .body = R"({"message": "forbidden"})"};
    if (request.find("limit=500 ") != request.npos) return {.body = page("7", "more", {"a"})};
    if (request.find("continue=more") != request.npos) return {.status = 410, .body = R"({"message": "expired"})"};
    if (request.find("limit=0 ") != request.npos) return {.body = page("9", "", {"a", "b"})};
    return {.body = frame("ADDED", "c", "10"), .hold = true};
  });
  ASSERT_TRUE(turn_until([&] { return names_.contains("c"); }));
  EXPECT_THAT(names_, UnorderedElementsAre("a", "b", "c"));
  EXPECT_THAT(asked(),
              ElementsAre(streamed_, "/api/v1/namespaces?limit=500", "/api/v1/namespaces?limit=500&continue=more",
                          "/api/v1/namespaces?limit=0", watched("9")));
}

TEST_F(ReflectorTest, ABusyServerIsAskedAgainWhenItSays) {
  int calls = 0;
  start([&](const std::string&) -> ScriptedAnswer {
    if (++calls == 1) return {.status = 429, .body = R"({"message": "too many"})", .headers = "Retry-After: 1\r\n"};
    return {.body = frame("ADDED", "a") + end_of_list("1"), .hold = true};
  });
  ASSERT_TRUE(turn_until([&] { return !reflector_->trouble().empty(); }));
  EXPECT_THAT(reflector_->trouble(), HasSubstr("429 too many"));
  const auto refused_at = std::chrono::steady_clock::now();
  ASSERT_TRUE(turn_until([&] { return names_.contains("a"); }));
  EXPECT_GE(std::chrono::steady_clock::now() - refused_at, 900ms);
  EXPECT_THAT(reflector_->trouble(), IsEmpty());
}

TEST_F(ReflectorTest, GarbageIsNamedAndAskedForAgain) {
  int calls = 0;
  start([&](const std::string&) -> ScriptedAnswer {
    switch (++calls) {
      case 1:
        return {.body = "<html>a captive portal</html>"};
      case 2:
        return {.body = frame("ADDED", "a") + end_of_list("5") + std::string("\0\0\0\4junk", 8)};
      default:
        return {.body = frame("ADDED", "b") + end_of_list("6"), .hold = true};
    }
  });
  ASSERT_TRUE(turn_until([&] { return !reflector_->trouble().empty(); }));
  EXPECT_THAT(reflector_->trouble(), HasSubstr("a watch frame of 1013478509 bytes"));  // "<htm"
  EXPECT_THAT(reflector_->trouble(), HasSubstr("/api/v1/namespaces"));
  ASSERT_TRUE(turn_until([&] { return names_ == std::set<std::string>{"b"}; }));  // an event may have been missed
  EXPECT_THAT(reflector_->trouble(), IsEmpty());
}

TEST_F(ReflectorTest, AStalledWatchIsTakenUpOverANewConnection) {
  int calls = 0;
  start(
      [&](const std::string&) -> ScriptedAnswer {
        if (++calls == 1) return {.body = frame("ADDED", "a") + end_of_list("5"), .hold = true};
        return {.body = frame("ADDED", "b", "6"), .hold = true};
      },
      1s);
  ASSERT_TRUE(turn_until([&] { return names_.contains("b"); }));
  EXPECT_THAT(names_, UnorderedElementsAre("a", "b"));
  EXPECT_THAT(asked(), ElementsAre(streamed_, watched("5")));
}

TEST_F(ReflectorTest, AWatchThatEndsIsResumedWhereItWas) {
  int calls = 0;
  start([&](const std::string&) -> ScriptedAnswer {
    switch (++calls) {
      case 1:
        return {.body = frame("ADDED", "a") + end_of_list("5") + frame("ADDED", "b", "6") + frame("BOOKMARK", "", "8")};
      case 2:
        return {.status = 500, .body = R"({"message": "etcd is away"})"};
      default:
        return {.body = frame("ADDED", "c", "9"), .hold = true};
    }
  });
  ASSERT_TRUE(turn_until([&] { return names_.contains("c"); }));
  EXPECT_THAT(asked(), ElementsAre(streamed_, watched("8"), watched("8")));
}

struct Written final : TableSink<std::string> {
  std::map<std::string, std::shared_ptr<const std::string>> rows;
  Revision upsert(const std::string&, std::string key, std::shared_ptr<const std::string> row) override {
    rows[key] = std::move(row);
    return 0;
  }
  Revision erase(const std::string&, const std::string& key) override {
    rows.erase(key);
    return 0;
  }
  void replace(const std::string&,
               std::vector<std::pair<std::string, std::shared_ptr<const std::string>>> all) override {
    rows = {all.begin(), all.end()};
  }
  void set_complete(const std::string&) override {}
};

TEST(TableObjectSink, ANewListKeepsRowsThatDidNotChangeAndThoseOfObjectsThatWentBad) {
  const auto written = std::make_shared<Written>();
  bool bad = false;
  TableObjectSink<std::string> sink(TableWriter<std::string>(written, "api"), key_by_name,
                                    [&bad](std::string_view object) -> Result<std::pair<std::string, std::string>> {
                                      FL_LET(const ObjectHead head, read_head(object));
                                      if (bad) return fail(Code::kInvalid, "bad");
                                      return std::pair{key_by_name(head), head.name};
                                    });
  const auto object = [](const char* name, const char* version) {
    k8s::Namespace message;
    message.mutable_metadata()->set_name(name);
    message.mutable_metadata()->set_resourceversion(version);
    return message.SerializeAsString();
  };
  const auto put = [&](const char* name, const char* version) {
    const std::string bytes = object(name, version);
    return sink.put(*read_head(bytes), bytes);
  };
  sink.begin_list();
  EXPECT_TRUE(put("same", "1"));
  EXPECT_TRUE(put("worse", "1"));
  EXPECT_TRUE(put("gone", "1"));
  EXPECT_THAT(written->rows, IsEmpty());
  sink.end_list();
  const auto before = written->rows;
  EXPECT_EQ(before.size(), 3U);

  sink.begin_list();
  EXPECT_TRUE(put("same", "1"));
  bad = true;
  EXPECT_FALSE(put("worse", "2"));
  EXPECT_FALSE(put("new", "2"));  // never was good
  sink.end_list();
  EXPECT_EQ(written->rows.size(), 2U);
  EXPECT_EQ(written->rows.at("same"), before.at("same"));  // the very row: a change to nobody
  EXPECT_EQ(written->rows.at("worse"), before.at("worse"));
}

}  // namespace
}  // namespace fairlead::kube
