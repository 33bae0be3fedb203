// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/wire.h"

#include <gtest/gtest.h>
#include <k8s/meta.pb.h>
#include <k8s/namespace.pb.h>

#include "test/unit/kube_api/frames.h"

namespace fairlead::kube {
namespace {

TEST(ReadList, GivesItemsOneByOneAndThePageToken) {
  k8s::NamespaceList list;
  list.mutable_metadata()->set_resourceversion("42");
  list.mutable_metadata()->set_continue_("next");
  list.add_items()->mutable_metadata()->set_name("a");
  list.add_items()->mutable_metadata()->set_name("b");
  std::string names;
  const auto head = read_list(wrap(list.SerializeAsString()), [&](std::string_view bytes) -> Result<> {
    k8s::Namespace item;
    EXPECT_TRUE(item.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
    names += item.metadata().name();
    return {};
  });
  ASSERT_TRUE(head) << head.error().what;
  EXPECT_EQ(names, "ab");
  EXPECT_EQ(head->resource_version, "42");
  EXPECT_EQ(head->next_page, "next");
}

TEST(ReadList, RefusesJsonAndEveryTruncation) {
  const auto none = [](std::string_view) -> Result<> { return {}; };
  EXPECT_FALSE(read_list("{\"kind\":\"NamespaceList\"}", none));
  k8s::NamespaceList list;
  list.add_items()->mutable_metadata()->set_name("a-name-long-enough");
  const std::string whole = wrap(list.SerializeAsString());
  for (std::size_t size = 0; size + 1 < whole.size() - list.SerializeAsString().size(); ++size) {
    read_list(whole.substr(0, size), none);  // must not crash; a cut at a field's border may still be a message
  }
  EXPECT_FALSE(read_list(whole.substr(0, whole.size() - 1), none));
}

TEST(FrameReader, JoinsFramesThatArriveInPieces) {
  const std::string stream = frame("ADDED", "a") + frame("DELETED", "b");
  FrameReader reader;
  std::string seen;
  for (const char byte : stream) {
    ASSERT_TRUE(reader.feed({&byte, 1}, [&](const WatchFrame& f) -> Result<> {
      k8s::Namespace object;
      EXPECT_TRUE(object.ParseFromString(f.object));
      seen += f.type + "=" + object.metadata().name() + " ";
      return {};
    }));
  }
  EXPECT_EQ(seen, "ADDED=a DELETED=b ");
}

TEST(FrameReader, RefusesAFrameThatIsTooLargeOrGarbage) {
  const auto none = [](const WatchFrame&) -> Result<> { return {}; };
  EXPECT_FALSE(FrameReader().feed("\xff\xff\xff\xff", none));
  EXPECT_FALSE(FrameReader().feed(std::string("\0\0\0\3abc", 7), none));
}

}  // namespace
}  // namespace fairlead::kube
