// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/layout.h"

#include <bpf/btf.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace fairlead::datapath {
namespace {

struct Field {
  const char* name;
  std::uint32_t bytes;
};

// A struct of unsigned integers in a row, as BTF.
class Struct {
 public:
  explicit Struct(const std::vector<Field>& fields) : types_(btf__new_empty(), btf__free) {
    std::vector<int> ids;
    std::uint32_t size = 0;
    for (const Field& field : fields) {
      ids.push_back(btf__add_int(types_.get(), ("u" + std::to_string(field.bytes)).c_str(), field.bytes, 0));
      size += field.bytes;
    }
    id_ = btf__add_struct(types_.get(), "record", size);
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < fields.size(); ++i) {
      btf__add_field(types_.get(), fields[i].name, ids[i], bits, 0);
      bits += fields[i].bytes * 8;
    }
  }
  operator TypeRef() const { return {types_.get(), static_cast<std::uint32_t>(id_)}; }

 private:
  std::unique_ptr<btf, void (*)(btf*)> types_;
  int id_ = 0;
};

TEST(LayoutDifference, IsNoneForTheSameFields) {
  const Struct a({{"tag", 4}, {"port", 2}, {"pad", 2}});
  const Struct b({{"tag", 4}, {"port", 2}, {"padding", 2}});
  EXPECT_EQ(layout_difference(a, b), "");
}

TEST(LayoutDifference, LetsReservedBytesBecomeFields) {
  const Struct before({{"tag", 4}, {"reserved", 4}});
  const Struct after({{"tag", 4}, {"flags", 4}});
  EXPECT_EQ(layout_difference(before, after), "");
  EXPECT_EQ(layout_difference(after, before), "flags") << "an older program would not know what it holds";
}

TEST(LayoutDifference, NamesWhatMovedOrChangedItsSize) {
  const Struct before({{"tag", 4}, {"port", 2}, {"state", 2}});
  EXPECT_EQ(layout_difference(before, Struct({{"tag", 4}, {"state", 2}, {"port", 2}})), "port");
  EXPECT_EQ(layout_difference(before, Struct({{"tag", 4}, {"port", 4}})), "port");
  EXPECT_EQ(layout_difference(before, Struct({{"mark", 4}, {"port", 2}, {"state", 2}})), "tag");
}

TEST(FieldCopies, FollowTheNames) {
  const Struct before({{"tag", 4}, {"port", 2}, {"state", 2}, {"old", 4}});
  const Struct after({{"fresh", 4}, {"state", 4}, {"tag", 4}, {"port", 2}, {"reserved", 2}});
  const auto copies = field_copies(before, after);
  EXPECT_EQ(copies, (std::vector<FieldCopy>{{6, 4, 2}, {0, 8, 4}, {4, 12, 2}}));
  const std::vector<std::uint8_t> from{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  std::vector<std::uint8_t> to(16, 0xff);
  convert(copies, from, to);
  EXPECT_EQ(to, (std::vector<std::uint8_t>{0, 0, 0, 0, 7, 8, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0}));
}

}  // namespace
}  // namespace fairlead::datapath
