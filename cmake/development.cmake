# What differs between a checkout of the repository and the package that npm installs: the package has no tests.
if(EXISTS ${CMAKE_SOURCE_DIR}/test/native/CMakeLists.txt)
  set(DEVELOPMENT ON)
else()
  set(DEVELOPMENT OFF)
endif()

# Addon and native tests are built with the same flags, so that the core is compiled once. Hence warnings are errors either
# in all of a build folder or in none of it: in all with the compiler that the code is held to, in none with
# another, whose new warnings must not keep anybody from installing. The environment has the last word.
if(DEFINED ENV{RDMA_MIGRATE_WERROR})
  set(WARNINGS_ARE_ERRORS $ENV{RDMA_MIGRATE_WERROR})
elseif(DEVELOPMENT AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION MATCHES "^12\\."
    AND CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
  set(WARNINGS_ARE_ERRORS ON)
else()
  set(WARNINGS_ARE_ERRORS OFF)
endif()

# Objects that another build folder or an earlier commit has compiled need not be compiled again.
find_program(CCACHE_PROGRAM ccache)
if(DEVELOPMENT AND CCACHE_PROGRAM AND NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()
