# How a folder under src/ becomes a target: one static library per folder, named moe_<folder with underscores>.

add_library(moe_options INTERFACE)
target_include_directories(moe_options INTERFACE ${CMAKE_SOURCE_DIR}/src)
target_compile_options(moe_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:
  -Wall;-Wextra;-Wpedantic;-Wshadow;-Werror=missing-field-initializers;-Werror=return-type>)
option(MOE_WARNINGS_ARE_ERRORS "Treat every compiler warning as an error" OFF)
if(MOE_WARNINGS_ARE_ERRORS)
  target_compile_options(moe_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
set(MOE_SANITIZE "" CACHE STRING "Sanitizers for every target, for instance address,undefined")
if(MOE_SANITIZE)
  target_compile_options(moe_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:
    -fsanitize=${MOE_SANITIZE};-fno-omit-frame-pointer;-fno-sanitize-recover=all>)
  target_link_options(moe_options INTERFACE -fsanitize=${MOE_SANITIZE})
endif()

option(MOE_FUZZ "Add libFuzzer's targets (tests/fuzz); needs clang" OFF)

# moe_layer(FOLDER DEPS target...): src/FOLDER (and its nn/routers-like subfolders) as one library.
function(moe_layer folder)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  string(REPLACE "/" "_" name "moe_${folder}")
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${folder}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "^${CMAKE_SOURCE_DIR}/src/.*/kernels/")
  if(sources)
    add_library(${name} STATIC ${sources})
    target_link_libraries(${name} PUBLIC moe_options ${ARG_DEPS})
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE moe_options ${ARG_DEPS})
  endif()
endfunction()

# moe_kernel_objects(NAME ISA FOLDER definition...): FOLDER's sources for one instruction set, as the objects NAME.
function(moe_kernel_objects name isa folder)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${folder}/*.cpp)
  set(isa_flags_baseline -msse2)
  set(isa_flags_avx2 -mavx2 -mfma -mf16c)
  set(isa_flags_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c)
  set(isa_flags_avx512_vnni ${isa_flags_avx512} -mavx512vnni)
  set(isa_flags_avx512_bf16 ${isa_flags_avx512_vnni} -mavx512bf16)
  add_library(${name} OBJECT ${sources})
  target_link_libraries(${name} PRIVATE moe_options)
  target_compile_definitions(${name} PRIVATE MOE_ISA=${isa} ${ARGN})
  target_compile_options(${name} PRIVATE -O3 -ffp-contract=fast -fno-math-errno -fno-trapping-math ${isa_flags_${isa}}
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)  # g++ 12's own AVX-512 headers cause it
endfunction()

# moe_kernels(FOLDER): the same sources once per instruction set, in namespace moe::cpu::${isa}; chosen at run time.
# Kernel sources use no library templates, so that no function compiled for a newer processor is shared by the linker.
function(moe_kernels folder)
  foreach(isa baseline avx2 avx512 avx512_vnni avx512_bf16)
    moe_kernel_objects(moe_kernels_${isa} ${isa} ${folder})
    target_sources(moe_backend_cpu PRIVATE $<TARGET_OBJECTS:moe_kernels_${isa}>)
  endforeach()
endfunction()

# moe_build_facts(): build_facts.cpp in the build folder, up to date with git's commit at every build.
function(moe_build_facts)
  set(built_with "${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}, ${CMAKE_BUILD_TYPE}")
  if(MOE_SANITIZE)
    string(APPEND built_with " with -fsanitize=${MOE_SANITIZE}")
  endif()
  if(MOE_CUDA)
    string(REPLACE ";" " " architectures "${MOE_CUDA_ARCHITECTURES}")
    string(APPEND built_with ", CUDA ${CMAKE_CUDA_COMPILER_VERSION} for ${architectures}")
  else()
    string(APPEND built_with ", without CUDA")
  endif()
  add_custom_target(moe_facts BYPRODUCTS ${CMAKE_BINARY_DIR}/build_facts.cpp
    COMMAND ${CMAKE_COMMAND} -DOUTPUT=${CMAKE_BINARY_DIR}/build_facts.cpp -DSOURCE=${CMAKE_SOURCE_DIR}
      -DVERSION=${PROJECT_VERSION} "-DBUILT_WITH=${built_with}" -P ${CMAKE_SOURCE_DIR}/cmake/build_facts.cmake)
endfunction()

# moe_program(FOLDER): the program build/moe.
function(moe_program folder)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${folder}/*.cpp)
  if(sources)
    add_executable(moe ${sources})
    target_link_libraries(moe PRIVATE moe_options ${ARG_DEPS})
    target_sources(moe PRIVATE ${CMAKE_BINARY_DIR}/build_facts.cpp)
    # An archive brings its libraries (tools/make_archive.sh).
    set_target_properties(moe PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR} INSTALL_RPATH "$ORIGIN/../lib")
    target_link_options(moe PRIVATE -Wl,--disable-new-dtags)  # libraries of libraries are looked for there, too
  endif()
endfunction()

# moe_install(): bin/moe, its documents and configurations, and completion for bash. configs/ keeps its place beside the
# documents, which name it.
function(moe_install)
  include(GNUInstallDirs)
  install(TARGETS moe RUNTIME)
  install(FILES LICENSE README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
  install(DIRECTORY docs configs DESTINATION ${CMAKE_INSTALL_DOCDIR})
  install(CODE "execute_process(COMMAND $<TARGET_FILE:moe> completion bash OUTPUT_FILE ${CMAKE_BINARY_DIR}/moe.bash
    COMMAND_ERROR_IS_FATAL ANY)")
  install(FILES ${CMAKE_BINARY_DIR}/moe.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME moe)
endfunction()

# moe_discover(TARGET LABELS more...): each of its tests in CTest; `more` as gtest_discover_tests takes it.
# The expression has both brackets, because a list with one alone is not divided, and none at its end, because CMake 4
# writes it between [[ and ]].
function(moe_discover target labels)
  gtest_discover_tests(${target} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60 ${ARGN} PROPERTIES LABELS "${labels}"
    SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\] ." TIMEOUT 300)
endfunction()

# moe_test(FOLDER DEPS target... LABELS label...): tests/FOLDER/*_test.cpp as the executable test_FOLDER, each test in CTest.
function(moe_test folder)
  cmake_parse_arguments(ARG "" "" "DEPS;LABELS" ${ARGN})
  string(REPLACE "/" "_" name "test_${folder}")
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${folder}/*.cpp)
  if(NOT sources)
    message(FATAL_ERROR "moe_test(${folder}): there is no test in tests/${folder}")
  endif()
  if(NOT ARG_LABELS)
    set(ARG_LABELS fast)
  endif()
  add_executable(${name} ${sources})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gtest GTest::gtest_main GTest::gmock)
  target_compile_definitions(${name} PRIVATE MOE_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
    MOE_SHARED_DIR="${CMAKE_SOURCE_DIR}/../shared")
  moe_discover(${name} "${ARG_LABELS}")
endfunction()
