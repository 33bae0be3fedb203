// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/codec/yaml.h"

#include <gtest/gtest.h>

#include "agent/base/result.h"

namespace fairlead::kube::yaml {
namespace {

Node one(std::string_view text) {
  auto root = parse_one(text);
  EXPECT_TRUE(root) << root.error().reason;
  return root ? std::move(*root) : Node{};
}

std::string refusal(std::string_view text, const Limits& limits = {}) {
  const auto root = parse_one(text, limits);
  return root ? "accepted" : locate("f", root.error());
}

TEST(Yaml, ReadsDocumentsWithIndexAndLines) {
  const auto documents = parse("a: 1\n---\n# nothing here\n---\n- x\n- {b: \"2\"}\n");
  ASSERT_TRUE(documents) << documents.error().reason;
  ASSERT_EQ(documents->size(), 2U);
  EXPECT_EQ((*documents)[0].index, 1U);
  EXPECT_EQ((*documents)[1].index, 3U);
  const Node& list = (*documents)[1].root;
  EXPECT_EQ(list.items[1].get("b")->line, 6U);
  EXPECT_FALSE(list.items[1].get("b")->plain);
  EXPECT_TRUE((*documents)[0].root.get("a")->plain);
  EXPECT_EQ(parse("")->size(), 0U);
  EXPECT_EQ(parse("# only a comment\n")->size(), 0U);
}

TEST(Yaml, ABadDocumentLeavesTheOthersAlone) {
  const auto documents =
      parse("%YAML 1.2\n# head\n---\na: 1\n--- # bad\nb: [\n---\nc: |\n  ---\n---x: 1\n---\n- d\n...\n- e\n");
  ASSERT_TRUE(documents);
  ASSERT_EQ(documents->size(), 5U);
  EXPECT_EQ((*documents)[0].root.text_of("a"), "1");
  EXPECT_EQ((*documents)[1].index, 2U);
  EXPECT_EQ((*documents)[1].trouble.line, 7U) << (*documents)[1].trouble.reason;
  EXPECT_EQ((*documents)[2].root.text_of("c"), "---\n");
  EXPECT_EQ((*documents)[2].root.text_of("---x"), "1");
  EXPECT_EQ((*documents)[3].root.items[0].line, 12U);
  EXPECT_EQ((*documents)[4].index, 5U);
}

TEST(Yaml, LineOfFollowsAPathAsFarAsItGoes) {
  const Node root =
      one("metadata:\n  labels:\n    a.b/c: x\nspec:\n  containers:\n  - name: a\n  - name: b\n    image: i\n");
  EXPECT_EQ(line_of(root, "spec.containers[1].image"), 8U);
  EXPECT_EQ(line_of(root, "spec.containers[1].imagee"), 7U);
  EXPECT_EQ(line_of(root, "spec.containers[9]"), 5U);
  EXPECT_EQ(line_of(root, "metadata.labels[a.b/c]"), 3U);
  EXPECT_EQ(line_of(root, "spec.nope.deeper"), 4U);
  EXPECT_EQ(line_of(root, ""), 1U);
}

TEST(Yaml, ReadsJsonWithItsEscapes) {
  const Node root =
      one("{\"a\": \"\\u00e9\\ud83d\\ude00\\n\\/\", \"b\": [1, true, null],\n\t\"c\": \"\\\\ud83d\\\\ude00\"}");
  EXPECT_EQ(root.text_of("a"), "\u00e9\U0001F600\n/");
  EXPECT_EQ(root.get("b")->items[2].kind, Node::Kind::kNull);
  EXPECT_EQ(root.text_of("c"), "\\ud83d\\ude00");
}

TEST(Yaml, EveryEscapeIsACharacter) {
  EXPECT_EQ(one(R"(a: "\N\_x\L\P\xe9\u00e9\U0001F600é\N")").text_of("a"),
            "\u0085\u00a0x\u2028\u2029\u00e9\u00e9\U0001F600\u00e9\u0085");
  EXPECT_EQ(one(R"({"\_": 1})").text_of("\u00a0"), "1");
  EXPECT_EQ(one(R"(a: '\N\_')").text_of("a"), R"(\N\_)");
  EXPECT_EQ(one(R"(a: \N\_)").text_of("a"), R"(\N\_)");
}

TEST(Yaml, AliasesAndMergeKeys) {
  const Node root = one("base: &b {x: 1, y: 2}\nmore: &m {y: 7, z: 3}\none: *b\ntwo:\n  <<: [*b, *m]\n  x: 9\n");
  EXPECT_EQ(root.get("one")->text_of("y"), "2");
  EXPECT_EQ(root.get("two")->text_of("x"), "9");
  EXPECT_EQ(root.get("two")->text_of("y"), "2");
  EXPECT_EQ(root.get("two")->text_of("z"), "3");
  EXPECT_EQ(root.get("two")->get("<<"), nullptr);
  EXPECT_EQ(one("\"<<\": 1\n").text_of("<<"), "1");
}

TEST(Yaml, RefusesBombsCyclesAndExcess) {
  std::string bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 12; ++i) {
    bomb += fmt::format("a{0}: &a{0} [*a{1},*a{1},*a{1},*a{1},*a{1},*a{1},*a{1},*a{1},*a{1},*a{1}]\n", i, i - 1);
  }
  EXPECT_NE(refusal(bomb).find("too large"), std::string::npos);
  std::string fat = "a: &a \"" + std::string(1'000'000, 'x') + "\"\nb: [";
  for (int i = 0; i < 20; ++i) fat += "*a,";
  EXPECT_NE(refusal(fat + "]\n").find("too large"), std::string::npos);
  EXPECT_NE(refusal("a: &a [1, *a]\n").find("inside its own anchor"), std::string::npos);
  EXPECT_NE(refusal("a: &a\n  b: {c: *a}\n").find("f:2"), std::string::npos);
  EXPECT_NE(refusal(std::string(65, '[') + std::string(65, ']')).find("nested deeper than 64"), std::string::npos);
  EXPECT_NE(refusal(std::string(100'000, '[')), "accepted");
  EXPECT_NE(refusal(std::string(100'000, '{')), "accepted");
  EXPECT_NE(refusal("a: 12345\n", Limits{.bytes = 4}).find("9 bytes"), std::string::npos);
  std::string chain = "a0: &a0 [x]\n";  // each alias doubles the depth of what it holds
  for (int i = 1; i < 70; ++i) chain += fmt::format("a{0}: &a{0} [*a{1}]\n", i, i - 1);
  EXPECT_NE(refusal(chain).find("nested deeper"), std::string::npos);
}

TEST(Yaml, RefusesWithALine) {
  const std::pair<const char*, const char*> kCases[] = {
      {"a: 1\na: 2\n", "f:2: key \"a\" stands twice"},
      {"a: 1\nb: [1\n", "f:3"},
      {"a: 1\n b: 2\n", "f:2"},
      {"a: !!binary eA==\n", "tag"},
      {"a: !mine 1\n", "tag"},
      {"a: b\nc: *nope\n", "f:2"},
      {"? [1, 2]\n: x\n", "a key must be a string"},
      {"a: 1\n<<: 3\n", "<< takes a map"},
      {",", "f:1: unexpected text"},
      {"\n ,s", "f:2: unexpected text"},
      {"a: \xff\xfe\n", "f:1: not UTF-8"},
      {"a: b\nc: \xed\xa0\x80\n", "f:2: not UTF-8"},
  };
  for (const auto& [text, why] : kCases) EXPECT_NE(refusal(text).find(why), std::string::npos) << text << refusal(text);
}

TEST(Yaml, RefusesControlCharactersButNotTheirEscapes) {
  using namespace std::string_view_literals;
  const std::pair<std::string_view, std::string_view> kCases[] = {
      {"a: b\nc: \"\x04\"\n"sv, "f:2: control characters are not allowed"},
      {"a: b\0\n"sv, "f:1: control characters are not allowed"},
      {"\x7f"
       "ELF\x02\0\nb: \xff\n"sv,
       "f:2: not UTF-8"},
      // UTF-16 and UTF-32, with halves and characters that there are none of.
      {"\0a\0:\0 \0\"\xd8\x80\0\"\0\n"sv, "f:1: control characters are not allowed"},
      {"\0\0\0a\0\0\0:\0\0\0 \0\x15\0\0\0\0\0\n"sv, "f:1: control characters are not allowed"},
  };
  for (const auto& [text, why] : kCases) EXPECT_EQ(refusal(text), why);
  EXPECT_EQ(one("a: \"\\x04\\0\x7f\"\r\n").text_of("a"), "\x04\0\x7f"sv);
}

TEST(Yaml, PlainScalarsAsTheApisToolsReadThem) {
  bool truth = false;
  for (const char* text : {"true", "True", "yes", "on", "Y"}) EXPECT_TRUE(is_bool_word(text, &truth) && truth) << text;
  for (const char* text : {"false", "No", "OFF", "n"}) EXPECT_TRUE(is_bool_word(text, &truth) && !truth) << text;
  EXPECT_FALSE(is_bool_word("tRue"));
  __int128 number = 0;
  const std::pair<const char*, std::int64_t> kIntegers[] = {{"0", 0},        {"-7", -7},   {"+7", 7},   {"0644", 0644},
                                                            {"0o644", 0644}, {"0x1F", 31}, {"0b101", 5}};
  for (const auto& [text, value] : kIntegers) {
    EXPECT_TRUE(is_integer(text, &number)) << text;
    EXPECT_EQ(static_cast<std::int64_t>(number), value) << text;
  }
  for (const char* text : {"", "-", "0x", "089", "1.0", "1e3", "12a", "--1", "+-1", "99999999999999999999999"}) {
    EXPECT_FALSE(is_integer(text)) << text;
  }
  for (const char* text : {"1.5", "-1e3", ".5", "1."}) EXPECT_TRUE(is_number(text)) << text;
  for (const char* text : {"1.2.3", "10.0.0.1", "e", "1-2", "nan", "inf", "a1"}) EXPECT_FALSE(is_number(text)) << text;
}

}  // namespace
}  // namespace fairlead::kube::yaml
