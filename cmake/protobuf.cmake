# fairlead_proto(NAME [GRPC] PROTOS …): messages (and stubs) as target fairlead_proto_NAME, generated into the build
# folder, compiled once, without our warnings and without sanitizers.
find_package(Protobuf REQUIRED)
find_package(gRPC CONFIG REQUIRED)
find_program(GRPC_CPP_PLUGIN grpc_cpp_plugin REQUIRED)

function(fairlead_proto name)
  cmake_parse_arguments(arg "GRPC" "" "PROTOS" ${ARGN})
  set(out ${CMAKE_BINARY_DIR}/proto)
  file(MAKE_DIRECTORY ${out})
  set(sources "")
  foreach(proto ${arg_PROTOS})
    string(REGEX REPLACE "\\.proto$" "" stem ${proto})
    set(made ${out}/${stem}.pb.cc ${out}/${stem}.pb.h)
    set(plugin "")
    if(arg_GRPC)
      list(APPEND made ${out}/${stem}.grpc.pb.cc ${out}/${stem}.grpc.pb.h)
      set(plugin --grpc_out=${out} --plugin=protoc-gen-grpc=${GRPC_CPP_PLUGIN})
    endif()
    add_custom_command(
      OUTPUT ${made}
      COMMAND protobuf::protoc -I${CMAKE_CURRENT_SOURCE_DIR} --cpp_out=${out} ${plugin} ${proto}
      DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${proto}
      COMMENT "proto ${proto}" VERBATIM)
    list(APPEND sources ${made})
  endforeach()
  list(FILTER sources INCLUDE REGEX "\\.cc$")
  add_library(fairlead_proto_${name} STATIC ${sources})
  target_include_directories(fairlead_proto_${name} SYSTEM PUBLIC ${out})
  target_compile_options(fairlead_proto_${name} PRIVATE -O1 -g0 -w)
  target_link_libraries(fairlead_proto_${name} PUBLIC protobuf::libprotobuf)
  if(arg_GRPC)
    target_link_libraries(fairlead_proto_${name} PUBLIC gRPC::grpc++)
  endif()
endfunction()
