// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <k8s/meta.pb.h>

#include <limits>

#include "agent/kube/codec/base64.h"
#include "agent/kube/codec/quantity.h"
#include "agent/kube/codec/selector.h"
#include "agent/kube/codec/time.h"

namespace fairlead::kube {
namespace {

constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();

TEST(Quantity, ReadsExactlyAndWritesTheCanonicalForm) {
  struct Case {
    const char* text;
    std::int64_t units;  // rounded up
    std::int64_t milli;
    const char* canonical;
  };
  for (const Case& each : std::initializer_list<Case>{
           {"0", 0, 0, "0"},
           {"1", 1, 1000, "1"},
           {"-1", -1, -1000, "-1"},
           {"+5", 5, 5000, "5"},
           {"100m", 1, 100, "100m"},
           {"1000m", 1, 1000, "1"},
           {"1500m", 2, 1500, "1500m"},
           {"-1500m", -1, -1500, "-1500m"},
           {"0.5", 1, 500, "500m"},
           {".5", 1, 500, "500m"},
           {"2.", 2, 2000, "2"},
           {"1u", 1, 1, "1u"},
           {"1n", 1, 1, "1n"},
           {"0.1n", 1, 1, "1n"},
           {"0.0000000001", 1, 1, "1n"},
           {"1k", 1000, 1000000, "1k"},
           {"1E", 1000000000000000000, kMax, "1E"},
           {"9223372036854775807", kMax, kMax, "9223372036854775807"},
           {"10E", kMax, kMax, "9223372036854775807"},
           {"99999999999999999999999999", kMax, kMax, "9223372036854775807"},
           {"1e3", 1000, 1000000, "1e3"},
           {"12e-1", 2, 1200, "1200e-3"},
           {"1E3", 1000, 1000000, "1e3"},
           {"1e100", kMax, kMax, "9223372036854775807"},
           {"0e100", 0, 0, "0"},
           {"1e-100", 1, 1, "1e-9"},
           {"1Ki", 1024, 1024000, "1Ki"},
           {"1024Ki", 1048576, 1048576000, "1Mi"},
           {"1.5Gi", 1610612736, 1610612736000, "1536Mi"},
           {"0.5Ki", 512, 512000, "512"},
           {"128Mi", 134217728, 134217728000, "128Mi"},
           {"7Ei", 8070450532247928832, kMax, "7Ei"},
           {"8Ei", kMax, kMax, "9223372036854775807"},
           {"0.1Ki", 103, 102400, "102400m"},
           {"1.953125Ki", 2000, 2000000, "2k"},
           {"1.5Ki", 1536, 1536000, "1536"},
           {"-9E", -9000000000000000000, std::numeric_limits<std::int64_t>::min(), "-9E"},
       }) {
    const auto quantity = Quantity::parse(each.text);
    ASSERT_TRUE(quantity) << each.text << ": " << quantity.error().what;
    EXPECT_EQ(quantity->units(), each.units) << each.text;
    EXPECT_EQ(quantity->milli(), each.milli) << each.text;
    EXPECT_EQ(quantity->str(), each.canonical) << each.text;
    const auto again = Quantity::parse(quantity->str());
    ASSERT_TRUE(again) << quantity->str();
    EXPECT_EQ(*again, *quantity) << each.text;
    EXPECT_EQ(again->str(), quantity->str()) << each.text;
  }
}

TEST(Quantity, RefusesWhatIsNoneAndQuotesIt) {
  for (const char* text :
       {"", "-", "m", ".", "1.2.3", "1q", "1mi", "1KI", "1 Gi", " 1", "1e", "1e1.5", "0x10", "1ki", "1Kii"}) {
    const auto quantity = Quantity::parse(text);
    ASSERT_FALSE(quantity) << text;
    EXPECT_NE(quantity.error().what.find("\"" + std::string(text) + "\""), std::string::npos) << quantity.error().what;
  }
}

TEST(Quantity, RoundsUpToThousandths) {
  const std::pair<const char*, const char*> kCases[] = {
      {"1u", "1m"},      {"1500u", "2m"},
      {"-1500u", "-1m"}, {"0", "0"},
      {"1e-9", "1e-3"},  {"1E", "1E"},
      {"-9E", "-9E"},    {"1Ki", "1Ki"},
      {"8Ei", "8Ei"},    {"-99999999999999999999", "-9223372036854775807"}};
  for (const auto& [text, rounded] : kCases) {
    EXPECT_EQ(Quantity::parse(text)->rounded_to_milli(), *Quantity::parse(rounded)) << text;
  }
  EXPECT_EQ(Quantity::parse("1e-9")->rounded_to_milli().str(), "1e-3");
}

TEST(Quantity, ComparesByValueNotByText) {
  EXPECT_EQ(*Quantity::parse("1"), *Quantity::parse("1000m"));
  EXPECT_LT(*Quantity::parse("999Mi"), *Quantity::parse("1Gi"));
  EXPECT_LT(*Quantity::parse("-2"), *Quantity::parse("1n"));
}

TEST(Time, ReadsRfc3339AndWritesUtc) {
  struct Case {
    const char* text;
    const char* utc;
    const char* micro;
  };
  for (const Case& each : std::initializer_list<Case>{
           {"2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000000Z"},
           {"2026-01-31T12:00:00.123456789Z", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00.123456Z"},
           {"2026-01-31T12:00:00+02:30", "2026-01-31T09:30:00Z", "2026-01-31T09:30:00.000000Z"},
           {"2026-01-31T23:00:00-02:00", "2026-02-01T01:00:00Z", "2026-02-01T01:00:00.000000Z"},
           {"1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59Z", "1969-12-31T23:59:59.500000Z"},
           {"2024-02-29T00:00:00z", "2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000000Z"},
           {"0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000000Z"},
           {"9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000000Z"},
       }) {
    const auto time = parse_time(each.text);
    ASSERT_TRUE(time) << each.text;
    EXPECT_EQ(format_time(*time), each.utc);
    EXPECT_EQ(format_micro_time(*time), each.micro);
  }
  EXPECT_EQ(to_timestamp(WallTime(std::chrono::milliseconds(-500))), (Timestamp{-1, 500'000'000}));
}

TEST(Time, RefusesWhatIsNone) {
  for (const char* text :
       {"", "2026-01-31", "2026-01-31T12:00:00", "2026-02-30T00:00:00Z", "2026-01-31 12:00:00Z", "2026-01-31T24:00:00Z",
        "2026-01-31T12:00:00.Z", "2026-01-31T12:00:00+0200", "2026-01-31T12:00:00Zx", "26-01-31T12:00:00Z",
        // Of a year in UTC that has no four digits.
        "0000-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01"}) {
    EXPECT_FALSE(parse_time(text)) << text;
  }
}

TEST(DurationText, RoundTripsAsGoWritesIt) {
  using namespace std::chrono_literals;
  const std::pair<const char*, Duration> kCases[] = {{"0s", 0s},       {"1h30m0s", 90min}, {"1m0.5s", 60500ms},
                                                     {"500ms", 500ms}, {"1.5ms", 1500us},  {"20\u00b5s", 20us},
                                                     {"7ns", 7ns},     {"-2s", -2s},       {"24h0m0s", 24h}};
  for (const auto& [text, value] : kCases) {
    ASSERT_TRUE(parse_duration(text)) << text;
    EXPECT_EQ(*parse_duration(text), value) << text;
    EXPECT_EQ(format_duration(value), text);
  }
  EXPECT_EQ(*parse_duration("1.5h"), 90min);
  EXPECT_EQ(*parse_duration("10us"), 10us);
  EXPECT_EQ(*parse_duration("0"), 0s);
  for (const char* text : {"", "5", "s", "1x", "1h 30m", "1.2.3s", "99999999999h", "."}) {
    EXPECT_FALSE(parse_duration(text)) << text;
  }
}

TEST(Base64, RoundTripsAndRefuses) {
  for (const std::string& bytes :
       {std::string(), std::string("a"), std::string("ab"), std::string("abc"), std::string("\0\xff\x80zz", 5)}) {
    EXPECT_EQ(base64_decode(base64_encode(bytes)), bytes);
  }
  EXPECT_EQ(base64_encode("hello"), "aGVsbG8=");
  EXPECT_EQ(base64_decode("aGVs\nbG8=\n"), "hello");
  for (const char* text : {"a", "ab=", "a===", "ab==cd==", "ab=c", "a b=", "-_-_"})
    EXPECT_FALSE(base64_decode(text)) << text;
}

TEST(Selector, MatchesByLabelsAndExpressions) {
  const model::Labels web{{"app", "web"}, {"tier", "front"}};
  using model::Selector;
  EXPECT_TRUE(Selector().matches(web));
  EXPECT_TRUE(Selector::from_labels({{"app", "web"}}).matches(web));
  EXPECT_FALSE(Selector::from_labels({{"app", "web"}, {"zone", "a"}}).matches(web));

  struct Case {
    const char* key;
    const char* op;
    std::vector<std::string> values;
    bool matches;
  };
  for (const Case& each : std::initializer_list<Case>{
           {"app", "In", {"web", "db"}, true},
           {"app", "In", {"db"}, false},
           {"zone", "In", {"a"}, false},
           {"app", "NotIn", {"db"}, true},
           {"app", "NotIn", {"web"}, false},
           {"zone", "NotIn", {"a"}, true},
           {"app", "Exists", {}, true},
           {"zone", "Exists", {}, false},
           {"zone", "DoesNotExist", {}, true},
           {"app", "DoesNotExist", {}, false},
       }) {
    k8s::LabelSelector message;
    auto& expression = *message.add_matchexpressions();
    expression.set_key(each.key);
    expression.set_operator_(each.op);
    for (const std::string& value : each.values) expression.add_values(value);
    const auto selector = compile_selector(message);
    ASSERT_TRUE(selector) << selector.error().what;
    EXPECT_EQ(selector->matches(web), each.matches) << each.key << " " << each.op;
    (*message.mutable_matchlabels())["tier"] = "back";
    EXPECT_FALSE(compile_selector(message)->matches(web)) << "both parts must hold";
  }
}

TEST(Selector, RefusesWrongExpressions) {
  const std::pair<const char*, std::vector<std::string>> kWrong[] = {
      {"In", {}}, {"NotIn", {}}, {"Exists", {"a"}}, {"DoesNotExist", {"a"}}, {"Gt", {"1"}}, {"", {}}};
  for (const auto& [op, values] : kWrong) {
    k8s::LabelSelector message;
    auto& expression = *message.add_matchexpressions();
    expression.set_key("app");
    expression.set_operator_(op);
    for (const std::string& value : values) expression.add_values(value);
    const auto selector = compile_selector(message);
    ASSERT_FALSE(selector) << op;
    EXPECT_NE(selector.error().what.find("\"app\""), std::string::npos);
  }
}

}  // namespace
}  // namespace fairlead::kube
