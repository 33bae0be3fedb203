// SPDX-License-Identifier: Apache-2.0
// Manifests that tests of whole nodes share.
#pragma once

#include <spdlog/fmt/fmt.h>

#include <string>

namespace fairlead::e2e {

inline constexpr auto kWeb4 = "http://10.96.0.80/";
inline constexpr auto kWeb6 = "http://[fd00:10:96::80]/";

// Service "web": HTTP, a line and a datagram from the pods with label app=web.
inline constexpr auto kService = R"(
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ipFamilyPolicy: RequireDualStack
  clusterIPs: [10.96.0.80, "fd00:10:96::80"]
  ports:
  - {name: http, port: 80, targetPort: http}
  - {name: line, port: 81, targetPort: line}
  - {name: datagram, port: 82, targetPort: datagram, protocol: UDP}
)";

// A pod of one container, `container` being the rest of its fields, `spec` the pod's.
inline std::string pod_of(const std::string& name, const std::string& container, const std::string& spec = "",
                          const std::string& labels = "") {
  return fmt::format(R"(
apiVersion: v1
kind: Pod
metadata: {{name: {}, labels: {{{}}}}}
spec:
  terminationGracePeriodSeconds: 5
  {}
  containers:
  - {{name: main, image: "localhost/fairlead/echo:demo", {}}}
)",
                     name, labels, spec, container);
}

// A backend of Services that select app=`app`.
inline std::string web(const std::string& name, const std::string& more = "", const std::string& app = "web") {
  return pod_of(name,
                R"(args: [serve, --http, "8080", --tcp, "8081", --udp, "8082"],
     ports: [{name: http, containerPort: 8080}, {name: line, containerPort: 8081},
             {name: datagram, containerPort: 8082, protocol: UDP}],
     readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1})" +
                    more,
                "", "app: " + app);
}

// A pod to ask from.
inline std::string client() {
  return pod_of("client", R"(args: [serve, --http, "8080"])");
}

// A pod that runs a shell line.
inline std::string shell(const std::string& name, const std::string& line, const std::string& spec = "",
                         const std::string& container = "") {
  return pod_of(name, fmt::format("command: [sh, -c, '{}']{}", line, container), spec);
}

}  // namespace fairlead::e2e
