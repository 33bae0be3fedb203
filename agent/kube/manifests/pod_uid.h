// SPDX-License-Identifier: Apache-2.0
// A manifest pod's uid: a stable hash, so that a restarted agent finds its pods again and a changed pod is another one.
#pragma once

#include <string>

namespace k8s {
class Pod;
}

namespace fairlead::kube {

// From node, namespace, name and the defaulted spec without what the API lets change in place (container images,
// tolerations, activeDeadlineSeconds). In the shape of a UUID (version 8).
std::string manifest_pod_uid(const std::string& node_name, const k8s::Pod& pod);

}  // namespace fairlead::kube
