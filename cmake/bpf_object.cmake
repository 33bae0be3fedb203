# bpf_object(x.bpf.c): builds one BPF object and its skeleton header <x.skel.h>, with header dependencies, as target
# bpf_x (link it to see the header). A library header may hold callbacks, which cannot be inline, that not every object
# uses.
find_program(CLANG NAMES clang-19 REQUIRED)
find_program(LLVM_STRIP NAMES llvm-strip-19 REQUIRED)
find_program(BPFTOOL NAMES bpftool PATHS /usr/sbin REQUIRED)
pkg_check_modules(LIBBPF REQUIRED IMPORTED_TARGET libbpf)

set(BPF_GENERATED ${CMAKE_BINARY_DIR}/bpf)
file(MAKE_DIRECTORY ${BPF_GENERATED})

function(bpf_object source)
  get_filename_component(file ${source} NAME)
  string(REPLACE ".bpf.c" "" name ${file})
  set(in ${CMAKE_CURRENT_SOURCE_DIR}/${source})
  set(object ${BPF_GENERATED}/${name}.bpf.o)
  set(skeleton ${BPF_GENERATED}/${name}.skel.h)
  add_custom_command(
    OUTPUT ${object}
    COMMAND ${CLANG} -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Wno-unused-parameter -Wno-unused-function -Werror
            -D__TARGET_ARCH_x86 -I${CMAKE_SOURCE_DIR} -I${BPF_GENERATED} -isystem /usr/include/x86_64-linux-gnu
            -MD -MF ${object}.d -MT ${object} -c ${in} -o ${object}
    COMMAND ${LLVM_STRIP} -g ${object}
    DEPENDS ${in}
    DEPFILE ${object}.d
    COMMENT "BPF ${name}" VERBATIM)
  add_custom_command(
    OUTPUT ${skeleton}
    COMMAND ${BPFTOOL} gen skeleton ${object} name ${name}_bpf > ${skeleton}
    DEPENDS ${object}
    COMMENT "BPF skeleton ${name}" VERBATIM)
  add_custom_target(bpf_${name}_skeleton DEPENDS ${skeleton})
  add_library(bpf_${name} INTERFACE)
  add_dependencies(bpf_${name} bpf_${name}_skeleton)
  target_include_directories(bpf_${name} SYSTEM INTERFACE ${BPF_GENERATED})
  target_link_libraries(bpf_${name} INTERFACE PkgConfig::LIBBPF)
endfunction()
