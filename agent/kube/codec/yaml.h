// SPDX-License-Identifier: Apache-2.0
// YAML (and JSON, which YAML contains) as a plain tree with line numbers, bounded against hostile input: size, depth,
// what aliases expand to. Anchors, aliases and merge keys are resolved here; a cyclic anchor is refused.
#pragma once

#include <cstddef>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "agent/kube/codec/field_error.h"

namespace fairlead::kube::yaml {

struct Field;

struct Node {
  enum class Kind { kNull, kScalar, kSequence, kMap };
  Kind kind = Kind::kNull;
  bool plain = false;         // a scalar without quotes: it may be a number or a truth value
  unsigned line = 0;          // from 1
  std::string text;           // of a scalar
  std::vector<Node> items;    // of a sequence
  std::vector<Field> fields;  // of a map, in the order written; keys are unique

  const Node* get(std::string_view key) const;
  // The text of scalar field `key`, or "".
  std::string_view text_of(std::string_view key) const;
};

struct Field {
  std::string key;
  unsigned line = 0;
  Node value;
};

std::string_view kind_name(const Node& node);  // "a map", "a string", …: for error texts

struct Limits {
  std::size_t bytes = 16U << 20;  // of the text, and of all scalars with aliases expanded
  std::size_t nodes = 1'000'000;  // with aliases expanded
  std::size_t depth = 64;         // with aliases expanded
};

struct Document {
  unsigned index = 0;  // from 1, empty documents counted
  Node root;
  FieldError trouble;  // why it cannot be read; empty reason: it can. `root` is of no use then
};

// The text's documents, without the empty ones. A bad document does not touch the others; an error is one of the whole
// text: too large, not UTF-8, or with control characters that neither YAML nor JSON has.
std::expected<std::vector<Document>, FieldError> parse(std::string_view text, const Limits& limits = {});

// The text's only document.
std::expected<Node, FieldError> parse_one(std::string_view text, const Limits& limits = {});

// The line of the field that `path` ("spec.containers[0].image") names, or of the nearest one around it.
unsigned line_of(const Node& root, std::string_view path);

// What a plain scalar is by YAML 1.1's core rules, which the API's tools follow.
bool is_null_word(std::string_view text);
bool is_bool_word(std::string_view text, bool* value = nullptr);
bool is_integer(std::string_view text, __int128* value = nullptr);  // decimal, 0x, 0o, 0b, and 0644 as octal
bool is_number(std::string_view text);                              // integer or decimal fraction

}  // namespace fairlead::kube::yaml
