// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/codec/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "agent/base/result.h"
#include "agent/base/utf8.h"

namespace fairlead::kube::yaml {
namespace {

// What neither YAML nor JSON has in its text.
bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 && c != '\t' && c != '\n' && c != '\r';
}

unsigned escaped_unit(std::string_view text) {  // the value of "\uXXXX" at the front, or 0
  unsigned unit = 0;
  if (text.size() < 6 || !text.starts_with("\\u")) return 0;
  const auto [end, error] = std::from_chars(text.data() + 2, text.data() + 6, unit, 16);
  return error == std::errc{} && end == text.data() + 6 ? unit : 0;
}

// JSON writes characters beyond 16 bits as two escapes, which YAML does not know: puts the character in their place.
std::string join_surrogates(std::string_view text) {
  std::string joined;
  joined.reserve(text.size());
  while (!text.empty()) {
    const unsigned high = escaped_unit(text);
    const unsigned low = high >= 0xd800 && high < 0xdc00 ? escaped_unit(text.substr(6)) : 0;
    if (low >= 0xdc00 && low < 0xe000) {
      const unsigned point = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
      joined += {static_cast<char>(0xf0 | point >> 18), static_cast<char>(0x80 | (point >> 12 & 0x3f)),
                 static_cast<char>(0x80 | (point >> 6 & 0x3f)), static_cast<char>(0x80 | (point & 0x3f))};
      text.remove_prefix(12);
      continue;
    }
    const std::size_t take = text.starts_with("\\\\") ? 2 : 1;
    joined += text.substr(0, take);
    text.remove_prefix(take);
  }
  return joined;
}

// yaml-cpp makes the escapes \N and \_, which stand for U+0085 and U+00A0, into these numbers as bytes; all else in a
// scalar is UTF-8, as the text is.
std::string mend_escapes(std::string_view scalar) {
  std::string mended;
  mended.reserve(scalar.size());
  while (!scalar.empty()) {
    const std::size_t length = utf8_length(scalar);
    if (length == 0) mended += '\xc2';
    mended += scalar.substr(0, std::max<std::size_t>(length, 1));
    scalar.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return mended;
}

// The text of one document, its "---" line included.
struct Section {
  std::string_view text;
  unsigned lines_before = 0;
};

// Cuts the text at the lines that begin a document, so that a syntax error ends with its document. What stands before
// the first of them is a document too, unless it is only comments and directives.
std::vector<Section> cut(std::string_view text) {
  std::vector<Section> sections;
  std::size_t begin = 0;
  unsigned begin_line = 0;
  bool content = false;  // in the current section
  unsigned line = 0;
  for (std::size_t at = 0; at < text.size(); ++line) {
    const std::size_t end = std::min(text.find('\n', at), text.size() - 1) + 1;
    const std::string_view row = text.substr(at, end - at);
    if (row.starts_with("---") && (row.size() == 3 || row.find_first_of(" \t\r\n", 3) == 3)) {
      if (content) sections.push_back({text.substr(begin, at - begin), begin_line});
      begin = at;
      begin_line = line;
      content = true;
    } else if (row.find_first_not_of(" \t\r\n") != row.npos && row.front() != '#' && row.front() != '%') {
      content = true;
    }
    at = end;
  }
  if (content) sections.push_back({text.substr(begin), begin_line});
  return sections;
}

struct Weight {
  std::size_t nodes = 1;
  std::size_t bytes = 0;
  std::size_t depth = 1;
  void add(const Weight& child) {
    nodes += child.nodes;
    bytes += child.bytes;
    depth = std::max(depth, child.depth + 1);
  }
};

// Builds one document's tree from the parser's events. After the first error it ignores the rest.
class Builder final : public YAML::EventHandler {
 public:
  explicit Builder(const Limits& limits) : limits_(limits) {}

  // A new document, whose text begins after `lines_before`.
  void begin(unsigned lines_before) {
    lines_before_ = lines_before;
    stack_.clear();
    anchors_.clear();
    root_ = Node{};
    trouble_ = FieldError{};
  }
  Node take() { return std::move(root_); }
  const FieldError& trouble() const { return trouble_; }
  const YAML::Mark& start() const { return start_; }  // of the document, in the parser's text

  void OnDocumentStart(const YAML::Mark& mark) override { start_ = mark; }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Node node;
    node.line = line(mark);
    place(std::move(node), anchor, {});
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Node node;
    node.kind = Node::Kind::kScalar;
    node.line = line(mark);
    node.text = is_utf8(value) ? value : mend_escapes(value);
    if (tag == "?" || tag == "tag:yaml.org,2002:int" || tag == "tag:yaml.org,2002:bool" ||
        tag == "tag:yaml.org,2002:float") {
      node.plain = true;
    } else if (tag != "!" && !tag.empty() && tag != "tag:yaml.org,2002:str") {
      return refuse(mark, "tag " + tag + " is not supported");
    }
    place(std::move(node), anchor, Weight{.bytes = value.size()});
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (!good()) return;
    const auto at = anchors_.find(anchor);
    if (at == anchors_.end()) return refuse(mark, "an alias stands inside its own anchor");
    if (!spend(line(mark), at->second.second)) return;
    place(Node(at->second.first), YAML::NullAnchor, at->second.second, true);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Node::Kind::kSequence);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Node::Kind::kMap);
  }
  void OnMapEnd() override {
    if (good()) merge(stack_.back());
    close();
  }

 private:
  struct Frame {
    Node node;
    YAML::anchor_t anchor = YAML::NullAnchor;
    Weight weight;
    bool has_key = false;  // of a map: fields.back() waits for its value
    std::set<std::string> keys;
    std::vector<Node> merged;  // values of "<<"
  };

  unsigned line(const YAML::Mark& mark) const { return lines_before_ + static_cast<unsigned>(mark.line + 1); }
  bool good() const { return trouble_.reason.empty(); }

  void refuse(const YAML::Mark& mark, std::string why) { refuse(line(mark), std::move(why)); }
  void refuse(unsigned at, std::string why) {
    if (good()) trouble_ = {"", std::move(why), at};
  }

  // Counts what is about to be built.
  bool spend(unsigned at, const Weight& weight) {
    nodes_ += weight.nodes;
    bytes_ += weight.bytes;
    if (nodes_ > limits_.nodes || bytes_ > limits_.bytes) {
      refuse(at,
             fmt::format("too large: over {} values or {} bytes with aliases expanded", limits_.nodes, limits_.bytes));
    } else if (stack_.size() + weight.depth > limits_.depth) {
      refuse(at, fmt::format("nested deeper than {} levels", limits_.depth));
    }
    return good();
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, Node::Kind kind) {
    if (!good()) return;
    if (tag != "?" && tag != "!" && !tag.empty() && tag != "tag:yaml.org,2002:map" && tag != "tag:yaml.org,2002:seq") {
      return refuse(mark, "tag " + tag + " is not supported");
    }
    if (!spend(line(mark), Weight{})) return;
    Frame frame;
    frame.node.kind = kind;
    frame.node.line = line(mark);
    frame.anchor = anchor;
    stack_.push_back(std::move(frame));
  }

  void close() {
    if (!good()) return;
    Frame frame = std::move(stack_.back());
    stack_.pop_back();
    place(std::move(frame.node), frame.anchor, frame.weight, true);
  }

  // Puts a finished node where it belongs: into its parent, or as the document's root.
  void place(Node node, YAML::anchor_t anchor, const Weight& weight, bool spent = false) {
    if (!good()) return;
    if (!spent && !spend(node.line, weight)) return;
    if (anchor != YAML::NullAnchor) anchors_[anchor] = {node, weight};
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    Frame& parent = stack_.back();
    parent.weight.add(weight);
    if (parent.node.kind == Node::Kind::kSequence) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.has_key) {
      if (node.kind != Node::Kind::kScalar)
        return refuse(node.line, "a key must be a string, not " + std::string(kind_name(node)));
      const bool merge_key = node.plain && node.text == "<<";
      if (!merge_key && !parent.keys.insert(node.text).second)
        return refuse(node.line, "key \"" + node.text + "\" stands twice");
      parent.node.fields.push_back({std::move(node.text), node.line, {}});
      parent.node.fields.back().value.plain = merge_key;  // remembered until the value is here
      parent.has_key = true;
    } else {
      const bool merge_key = parent.node.fields.back().value.plain;
      parent.has_key = false;
      if (merge_key) {
        parent.node.fields.pop_back();
        parent.merged.push_back(std::move(node));
      } else {
        parent.node.fields.back().value = std::move(node);
      }
    }
  }

  // Takes over the fields of "<<" maps that the map does not have itself; an earlier map wins over a later one.
  void merge(Frame& frame) {
    for (Node& source : frame.merged) {
      std::vector<Node> maps;
      if (source.kind == Node::Kind::kSequence) {
        maps = std::move(source.items);
      } else {
        maps.push_back(std::move(source));
      }
      for (Node& map : maps) {
        if (map.kind != Node::Kind::kMap) return refuse(map.line, "<< takes a map, not " + std::string(kind_name(map)));
        for (Field& field : map.fields) {
          if (frame.keys.insert(field.key).second) frame.node.fields.push_back(std::move(field));
        }
      }
    }
  }

  const Limits& limits_;
  std::vector<Frame> stack_;
  std::map<YAML::anchor_t, std::pair<Node, Weight>> anchors_;
  Node root_;
  FieldError trouble_;
  YAML::Mark start_ = YAML::Mark::null_mark();
  unsigned lines_before_ = 0;
  std::size_t nodes_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace

const Node* Node::get(std::string_view key) const {
  const auto at = std::ranges::find(fields, key, &Field::key);
  return at == fields.end() ? nullptr : &at->value;
}

std::string_view Node::text_of(std::string_view key) const {
  const Node* node = get(key);
  return node == nullptr || node->kind != Kind::kScalar ? std::string_view{} : node->text;
}

std::string_view kind_name(const Node& node) {
  switch (node.kind) {
    case Node::Kind::kNull:
      return "null";
    case Node::Kind::kSequence:
      return "a list";
    case Node::Kind::kMap:
      return "a map";
    case Node::Kind::kScalar:
      break;
  }
  if (!node.plain) return "a string";
  return is_bool_word(node.text) ? "a bool" : is_number(node.text) ? "a number" : "a string";
}

std::expected<std::vector<Document>, FieldError> parse(std::string_view text, const Limits& limits) {
  if (text.size() > limits.bytes) {
    return std::unexpected(FieldError{"", fmt::format("{} bytes, the limit is {}", text.size(), limits.bytes)});
  }
  unsigned line = 1;
  unsigned control = 0;  // the line of the first such character
  for (std::string_view rest = text; !rest.empty();) {
    const std::size_t length = utf8_length(rest);
    if (length == 0) return std::unexpected(FieldError{"", "not UTF-8", line});
    if (control == 0 && is_control(rest.front())) control = line;
    if (rest.front() == '\n') ++line;
    rest.remove_prefix(length);
  }
  // Zeros would make the parser take the text for UTF-16 or UTF-32, 4 for its end.
  if (control != 0) return std::unexpected(FieldError{"", "control characters are not allowed", control});
  std::vector<Document> documents;
  Builder builder(limits);
  unsigned index = 0;
  for (const Section& section : cut(text)) {
    const bool escapes = section.text.find("\\ud") != text.npos || section.text.find("\\uD") != text.npos;
    std::istringstream input(escapes ? join_surrogates(section.text) : std::string(section.text));
    try {
      YAML::Parser parser(input);
      for (int before = -1;; before = builder.start().pos) {
        builder.begin(section.lines_before);
        if (!parser.HandleNextDocument(builder)) break;
        // At a stray "," or "]" the parser stands still, and finds empty documents there without end.
        if (builder.start().pos == before) throw YAML::ParserException(builder.start(), "unexpected text");
        Document document{++index, builder.take(), builder.trouble()};
        const bool good = document.trouble.reason.empty();
        if (!good || document.root.kind != Node::Kind::kNull) documents.push_back(std::move(document));
      }
    } catch (const YAML::Exception& error) {
      const unsigned at = section.lines_before + static_cast<unsigned>(error.mark.line + 1);
      documents.push_back({++index, {}, {"", error.msg, at}});
    }
  }
  return documents;
}

std::expected<Node, FieldError> parse_one(std::string_view text, const Limits& limits) {
  auto documents = parse(text, limits);
  if (!documents) return std::unexpected(std::move(documents).error());
  if (documents->size() != 1) {
    return std::unexpected(FieldError{"", fmt::format("expected one document, got {}", documents->size())});
  }
  Document& only = documents->front();
  if (!only.trouble.reason.empty()) return std::unexpected(std::move(only.trouble));
  return std::move(only.root);
}

unsigned line_of(const Node& root, std::string_view path) {
  const Node* node = &root;
  unsigned line = root.line;
  while (!path.empty()) {
    if (path.front() == '[') {
      const std::size_t end = std::min(path.find(']'), path.size() - 1);
      const std::string_view inside = path.substr(1, end - 1);
      std::size_t index = 0;
      const auto [stop, error] = std::from_chars(inside.data(), inside.data() + inside.size(), index);
      const bool number = error == std::errc{} && stop == inside.data() + inside.size();
      path.remove_prefix(end + 1);
      if (number && node->kind == Node::Kind::kSequence) {
        if (index >= node->items.size()) return line;
        node = &node->items[index];
        line = node->line;
        continue;
      }
      const auto at = std::ranges::find(node->fields, inside, &Field::key);
      if (at == node->fields.end()) return line;
      line = at->line;
      node = &at->value;
      continue;
    }
    if (path.front() == '.') path.remove_prefix(1);
    const std::size_t end = std::min(path.find_first_of(".["), path.size());
    const auto at = std::ranges::find(node->fields, path.substr(0, end), &Field::key);
    if (at == node->fields.end()) return line;
    line = at->line;
    node = &at->value;
    path.remove_prefix(end);
  }
  return line;
}

bool is_null_word(std::string_view text) {
  return text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL";
}

bool is_bool_word(std::string_view text, bool* value) {
  static constexpr std::string_view kTrue[] = {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"};
  static constexpr std::string_view kFalse[] = {"false", "False", "FALSE", "no", "No", "NO",
                                                "off",   "Off",   "OFF",   "n",  "N"};
  const bool is_true = std::ranges::find(kTrue, text) != std::end(kTrue);
  if (value != nullptr) *value = is_true;
  return is_true || std::ranges::find(kFalse, text) != std::end(kFalse);
}

bool is_integer(std::string_view text, __int128* value) {
  bool negative = false;
  if (!text.empty() && (text.front() == '-' || text.front() == '+')) {
    negative = text.front() == '-';
    text.remove_prefix(1);
  }
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0X")) {
    base = 16;
  } else if (text.starts_with("0b") || text.starts_with("0B")) {
    base = 2;
  } else if (text.starts_with("0o") || text.starts_with("0O")) {
    base = 8;
  }
  if (base != 10) {
    text.remove_prefix(2);
  } else if (text.size() > 1 && text.front() == '0') {
    base = 8;
    text.remove_prefix(1);
  }
  std::uint64_t magnitude = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), magnitude, base);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return false;
  if (value != nullptr) *value = negative ? -static_cast<__int128>(magnitude) : static_cast<__int128>(magnitude);
  return true;
}

bool is_number(std::string_view text) {
  if (is_integer(text)) return true;
  if (text.starts_with('+')) text.remove_prefix(1);
  if (text.find_first_not_of("0123456789+-.eE") != text.npos) return false;
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return !text.empty() && error != std::errc::invalid_argument && end == text.data() + text.size();
}

}  // namespace fairlead::kube::yaml
