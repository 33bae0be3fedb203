# fairlead_library(NAME SOURCES … DEPS …): our own code, as target fairlead_NAME, with every warning an error.
# fairlead_interface(NAME DEPS …): the same for header-only folders.
# fairlead_program(NAME SOURCES … DEPS …): a program in build/bin.
# (No -Wnull-dereference, -Wrestrict, -Wmaybe-uninitialized: g++ 12 reports them from inside inlined library headers, as
# std::expected's destructor, when it optimises.)
set(FAIRLEAD_WARNINGS -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wcast-align -Wunused -Woverloaded-virtual
    -Wimplicit-fallthrough -Wno-missing-field-initializers -Wno-restrict -Werror $<$<CONFIG:RelWithDebInfo>:-Wno-maybe-uninitialized>)

function(fairlead_own_code target)
  target_include_directories(${target} PUBLIC ${CMAKE_SOURCE_DIR})
  target_compile_options(${target} PRIVATE ${FAIRLEAD_WARNINGS})
  if(FAIRLEAD_SANITIZE STREQUAL thread)
    target_compile_options(${target} PRIVATE -Wno-tsan)  # Asio has fences, which ThreadSanitizer does not see
  endif()
  if(FAIRLEAD_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${FAIRLEAD_SANITIZE} -fno-omit-frame-pointer)
    target_link_options(${target} PUBLIC -fsanitize=${FAIRLEAD_SANITIZE})
  endif()
endfunction()

function(fairlead_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
  add_library(fairlead_${name} STATIC ${arg_SOURCES})
  fairlead_own_code(fairlead_${name})
  target_link_libraries(fairlead_${name} PUBLIC ${arg_DEPS})
endfunction()

function(fairlead_interface name)
  cmake_parse_arguments(arg "" "" "DEPS" ${ARGN})
  add_library(fairlead_${name} INTERFACE)
  target_include_directories(fairlead_${name} INTERFACE ${CMAKE_SOURCE_DIR})
  target_link_libraries(fairlead_${name} INTERFACE ${arg_DEPS})
endfunction()

function(fairlead_program name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  fairlead_own_code(${name})
  target_link_libraries(${name} PRIVATE ${arg_DEPS})
endfunction()
