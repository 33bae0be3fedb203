// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/manifests/object.h"

#include <gmock/gmock.h>
#include <k8s/pod.pb.h>
#include <unistd.h>

#include <filesystem>

#include "agent/base/result.h"
#include "agent/kube/defaults/defaults.h"
#include "agent/kube/manifests/last_good.h"
#include "agent/kube/manifests/ledger.h"
#include "agent/kube/manifests/pod_uid.h"
#include "agent/kube/manifests/tree.h"
#include "test/unit/kube/read.h"

namespace fairlead::kube {
namespace {

using testing::ElementsAre;

ManifestContent read(std::string_view text) {
  return ManifestReader{"n1"}.read(text, "/m/f.yaml");
}

std::vector<std::string> refusals(const ManifestContent& content) {
  std::vector<std::string> all;
  for (const ManifestRefusal& refusal : content.refusals) {
    for (const FieldError& error : refusal.errors) {
      all.push_back(fmt::format("{}:{} {} {}", refusal.place.document, error.line, refusal.place.key(), error.str()));
    }
  }
  return all;
}

std::vector<std::string> keys(const ManifestContent& content) {
  std::vector<std::string> all;
  for (const ManifestObject& object : content.objects) all.push_back(object.place.key());
  return all;
}

TEST(ManifestReader, StaticPodsCarryTheirNodesNameAndComeAlone) {
  const ManifestReader reader{.node_name = "n1", .static_pods = true};
  const auto content = reader.read(
      "apiVersion: v1\nkind: Pod\nmetadata: {name: etcd}\nspec: {containers: [{name: c, image: x}]}\n---\n"
      "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 1}]}\n",
      "/m/f.yaml");
  ASSERT_EQ(content.objects.size(), 1U);
  const auto& pod = std::get<model::Pod>(content.objects[0].row);
  EXPECT_EQ(pod.id.name, "etcd-n1");
  EXPECT_EQ(pod.source, "/m/f.yaml");
  EXPECT_EQ(pod.object->metadata().name(), "etcd-n1");
  EXPECT_THAT(refusals(content),
              ElementsAre("2:7 Service/default/a kind: Service is for the API server: here are static pods"));
  // The kept copy is read by the same rules: it has the name of the file.
  EXPECT_EQ(content.objects[0].source.find("etcd-n1"), std::string::npos);
}

TEST(ManifestReader, KindsThatAreNoneSayWhy) {
  const std::pair<const char*, const char*> kCases[] = {
      {"- a\n", "1:1  expected an object, got a list"},
      {"metadata: {name: a}\n", "1:1  kind: Required value"},
      {"kind: Pod\nmetadata: {name: a}\n", "1:1 Pod/default/a apiVersion: Required value"},
      {"apiVersion: v2\nkind: Pod\nmetadata: {name: a}\n",
       "1:1 Pod/default/a apiVersion: Invalid value: \"v2\": Pod is of v1"},
      {"apiVersion: v1\nkind: EndpointSlice\nmetadata: {name: a, namespace: b}\n",
       "1:1 EndpointSlice/b/a apiVersion: Invalid value: \"v1\": EndpointSlice is of discovery.k8s.io/v1"},
      {"apiVersion: v1\nkind: Endpoints\nmetadata: {name: a}\n",
       "1:2 Endpoints/default/a kind: Endpoints is not supported in manifests: write Pod, Service, EndpointSlice, "
       "ConfigMap, Secret, Namespace, Node, NetworkPolicy or a List of them"},
      {"apiVersion: v1\nkind: Pod\n", "1:1  metadata.name: Required value"},
  };
  for (const auto& [text, error] : kCases) EXPECT_THAT(refusals(read(text)), testing::Contains(error)) << text;
  for (const char* kind : {"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob"}) {
    const auto content = read(fmt::format("apiVersion: apps/v1\nkind: {}\nmetadata: {{name: a}}\n", kind));
    EXPECT_THAT(refusals(content), ElementsAre(fmt::format("1:2 {0}/default/a kind: {0} needs a control plane: use "
                                                           "--kubeconfig, or write Pods",
                                                           kind)));
  }
}

TEST(ManifestReader, EveryDocumentAndItemStandsForItself) {
  const auto content = read(R"(apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: good}, data: {a: b}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: bad}, data: {a: 1}}
---
kind: [
---
apiVersion: v1
kind: Secret
metadata: {name: s, namespace: shop}
)");
  EXPECT_THAT(keys(content), ElementsAre("Namespace//shop", "ConfigMap/default/good", "Secret/shop/s"));
  EXPECT_TRUE(content.whole);
  const auto errors = refusals(content);
  ASSERT_EQ(errors.size(), 2U);
  EXPECT_EQ(errors[0], "2:9 ConfigMap/default/bad data[a]: expected a string (put it in quotes), got a number");
  EXPECT_EQ(content.refusals[0].place.item, 1);
  EXPECT_EQ(content.refusals[1].place.document, 3U);
  EXPECT_EQ(content.refusals[1].place.key(), "");
}

TEST(ManifestReader, NamespacesAndPoliciesBecomeRows) {
  const auto content = read(R"(apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: x}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: shop}
spec: {podSelector: {}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: bad, namespace: shop}
spec: {podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [192.0.2.0/24]}}]}]}
)");
  ASSERT_THAT(keys(content), ElementsAre("Namespace//shop", "NetworkPolicy/shop/deny"));
  EXPECT_EQ(std::get<model::Namespace>(content.objects[0].row),
            (model::Namespace{"shop", {{"kubernetes.io/metadata.name", "shop"}, {"team", "x"}}}));
  EXPECT_EQ(content.objects[1].row_key, "shop/deny");
  EXPECT_TRUE(std::get<model::NetworkPolicy>(content.objects[1].row).isolates_ingress);
  EXPECT_THAT(refusals(content),
              ElementsAre("3:13 NetworkPolicy/shop/bad spec.egress[0].to[0].ipBlock.except[0]: Invalid value: "
                          "\"192.0.2.0/24\": must be a strict subset of `cidr`"));
}

TEST(ManifestReader, APodOfAnotherNodeIsGoodButNotOurs) {
  const auto content =
      read("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {nodeName: n2, containers: [{name: c, image: i}]}\n");
  ASSERT_EQ(content.objects.size(), 1U);
  EXPECT_TRUE(std::holds_alternative<std::monostate>(content.objects[0].row));
}

// What is accepted is accepted again, as the same object, from the copy that is kept of it.
TEST(ManifestReader, AKeptCopyIsTheSameObject) {
  const std::string pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n";
  const std::string containers = "containers: [{name: c, image: x, resources: {limits: {memory: 1E}}}]";
  for (const std::string& text : {
           pod + "spec: {volumes: [{name: s, emptyDir: {sizeLimit: 1.953125Ki}}], " + containers + "}\n",
           pod + R"(spec: {containers: [{name: c, image: "x\N\_"}]})",
           pod + "spec: {" + containers + "}\nstatus: {startTime: 1970-01-01T00:00:00Z}\n",
           pod + "spec: {" + containers + "}\nstatus: {startTime: 1970-01-01T00:00:00.5Z}\n",
           pod + "spec: {" + containers + "}\nstatus: {startTime: 9999-12-31T23:59:59Z}\n",
       }) {
    const auto content = read(text);
    ASSERT_EQ(content.objects.size(), 1U) << testing::PrintToString(refusals(content));
    const auto again = read(content.objects[0].source);
    ASSERT_EQ(again.objects.size(), 1U) << testing::PrintToString(refusals(again));
    EXPECT_EQ(again.objects[0].source, content.objects[0].source);
    EXPECT_EQ(again.objects[0].row_key, content.objects[0].row_key);
  }
}

// The directory's name may be any bytes, though the copy is JSON.
TEST(LastGood, KeepsCopiesOfADirectoryOfAnyName) {
  const std::string folder = testing::TempDir() + "/fairlead-last-good-" + std::to_string(getpid());
  const auto content =
      read("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: x}]}\n");
  ASSERT_EQ(content.objects.size(), 1U);
  ASSERT_TRUE(LastGood(folder, "/m\xff").keep("a.yaml", {content.objects.data()}));
  EXPECT_EQ(LastGood(folder, "/m\xff").load({"n1"}).size(), 1U);
  EXPECT_EQ(LastGood(folder, "/other").load({"n1"}).size(), 0U);
  std::filesystem::remove_all(folder);
}

TEST(ManifestReader, WhatAServerWroteIsDropped) {
  const auto content = read(R"(apiVersion: v1
kind: Pod
metadata: {name: a, uid: from-server, resourceVersion: "7", creationTimestamp: 2026-01-01T00:00:00Z}
spec: {containers: [{name: c, image: i}], tolerations: [{operator: Exists}]}
status: {phase: Running, podIP: 10.0.0.1}
)");
  ASSERT_EQ(content.objects.size(), 1U) << refusals(content)[0];
  const auto& pod = std::get<model::Pod>(content.objects[0].row);
  EXPECT_NE(pod.id.uid, "from-server");
  EXPECT_EQ(pod.object->metadata().uid(), pod.id.uid);
  EXPECT_FALSE(pod.object->has_status());
  EXPECT_THAT(content.objects[0].reported, ElementsAre("spec.tolerations"));
}

TEST(ManifestPodUid, FollowsWhatMakesAPodAnother) {
  const auto uid = [](const std::string& node, const std::string& text) {
    auto pod = read_text<k8s::Pod>(text);
    default_manifest_meta(*pod.mutable_metadata());
    default_pod(pod);
    return manifest_pod_uid(node, pod);
  };
  const std::string base = "metadata: {name: a}\nspec: {containers: [{name: c, image: i}]}\n";
  const std::string own = uid("n1", base);
  EXPECT_THAT(own, testing::MatchesRegex("[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"));
  const char* kSame[] = {
      "metadata: {name: a, namespace: default, labels: {x: z}}\nspec: {containers: [{image: i, name: c}]}\n",
      "metadata: {name: a}\nspec: {restartPolicy: Always, containers: [{name: c, image: i, imagePullPolicy: "
      "Always}]}\n",
      "metadata: {name: a}\nspec: {tolerations: [{operator: Exists}], containers: [{name: c, image: other}]}\n",
  };
  for (const char* text : kSame) EXPECT_EQ(uid("n1", text), own) << text;
  const char* kOther[] = {
      "metadata: {name: b}\nspec: {containers: [{name: c, image: i}]}\n",
      "metadata: {name: a, namespace: x}\nspec: {containers: [{name: c, image: i}]}\n",
      "metadata: {name: a}\nspec: {containers: [{name: c, image: i, args: [x]}]}\n",
      "metadata: {name: a}\nspec: {hostNetwork: true, containers: [{name: c, image: i}]}\n",
  };
  for (const char* text : kOther) EXPECT_NE(uid("n1", text), own) << text;
  EXPECT_NE(uid("n2", base), own);
}

// ---- Ledger: files of ConfigMaps, each with one key "v".

std::string config(const std::string& name, const std::string& value) {
  return fmt::format("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {}}}\ndata: {{v: {}}}\n", name, value);
}

class LedgerTest : public testing::Test {
 protected:
  void put(const std::string& path, const std::string& text) { ledger_.update(path, read(text)); }
  // "name=value@path", a star for kept ones.
  std::vector<std::string> in_force() {
    ledger_.settle();
    std::vector<std::string> all;
    for (const auto& [key, entry] : ledger_.in_force()) {
      const auto& data = std::get<model::ConfigData>(entry.object->row);
      all.push_back(data.id.name + "=" + data.data.at("v") + "@" + *entry.path + (entry.object->kept ? "*" : ""));
    }
    return all;
  }
  Ledger ledger_;
};

TEST_F(LedgerTest, ARefusedObjectKeepsItsLastGoodVersion) {
  put("f", config("a", "one") + config("b", "one"));
  put("f", config("a", "1") + config("b", "two"));
  EXPECT_THAT(in_force(), ElementsAre("a=one@f*", "b=two@f"));
  put("f", config("b", "three"));
  EXPECT_THAT(in_force(), ElementsAre("b=three@f")) << "it left the file: no longer kept";
}

TEST_F(LedgerTest, WhoDoesNotSayWhoItIsKeepsEverythingThatIsNotThere) {
  put("f", config("a", "one") + config("b", "one"));
  put("f", config("b", "two") + "---\nkind: [\n");
  EXPECT_THAT(in_force(), ElementsAre("a=one@f*", "b=two@f"));
  put("f", "\xff");
  EXPECT_THAT(in_force(), ElementsAre("a=one@f*", "b=two@f*"));
  put("f", "");
  EXPECT_THAT(in_force(), ElementsAre());
}

TEST_F(LedgerTest, OneFileSpeaksForAnObject) {
  put("b", config("a", "from-b"));
  EXPECT_THAT(in_force(), ElementsAre("a=from-b@b"));
  put("a", config("a", "from-a"));
  put("c", config("a", "from-c"));
  EXPECT_THAT(in_force(), ElementsAre("a=from-b@b"));
  ASSERT_EQ(ledger_.duplicates().size(), 2U);
  EXPECT_EQ(*ledger_.duplicates()[1].path, "c");
  EXPECT_EQ(ledger_.duplicates()[1].owner, "b");
  ledger_.remove("b");
  EXPECT_THAT(in_force(), ElementsAre("a=from-a@a")) << "the next by path";
  put("a", config("other", "x"));
  EXPECT_THAT(in_force(), ElementsAre("a=from-c@c", "other=x@a"));
}

TEST_F(LedgerTest, TwiceInOneFileTheFirstCounts) {
  put("f", config("a", "one") + config("a", "two"));
  EXPECT_THAT(in_force(), ElementsAre("a=one@f"));
  ASSERT_EQ(ledger_.files().at("f").refusals.size(), 1U);
  EXPECT_EQ(ledger_.files().at("f").refusals[0].errors[0].str(),
            "metadata.name: already defined in document 1 of this file");
}

TEST_F(LedgerTest, RestoredOwnersStayOwners) {
  ledger_.restore("z", read(config("a", "old")).objects);
  put("b", config("a", "from-b"));
  EXPECT_THAT(in_force(), ElementsAre("a=old@z*"));
  put("z", config("a", "new"));
  EXPECT_THAT(in_force(), ElementsAre("a=new@z"));
}

TEST(Examples, OfTheRepositoryAreAccepted) {
  const auto tree = scan_tree(FAIRLEAD_EXAMPLES "/demo");
  ASSERT_TRUE(tree) << tree.error().message();
  EXPECT_FALSE(tree->files.empty());
  for (const auto& [path, stamp] : tree->files) {
    const auto file = read_manifest(FAIRLEAD_EXAMPLES "/demo/" + path, 1U << 20);
    ASSERT_TRUE(file) << file.error().message();
    const auto content = read(file->text);
    EXPECT_THAT(refusals(content), testing::IsEmpty()) << path;
    EXPECT_FALSE(content.objects.empty()) << path;
  }
}

}  // namespace
}  // namespace fairlead::kube
