# Configures, builds and runs the native tests: cmake -DPRESET=plain|asan|tsan -P cmake/native-tests.cmake
set(sanitize_plain "")
set(sanitize_asan "address")
set(sanitize_tsan "thread")
if(NOT DEFINED sanitize_${PRESET})
  message(FATAL_ERROR "PRESET is '${PRESET}': expected plain, asan or tsan")
endif()
# Sanitizers make GCC warn of what is not there; the plain build holds the code to its warnings.
set(werror_plain ON)
set(werror_asan OFF)
set(werror_tsan OFF)
get_filename_component(source ${CMAKE_CURRENT_LIST_DIR} DIRECTORY)
set(build ${source}/build/native-${PRESET})

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "failed (${status}): ${ARGN}")
  endif()
endfunction()

run(${CMAKE_COMMAND} -S ${source} -B ${build} -DRDMA_MIGRATE_TESTS=ON -DRDMA_MIGRATE_WERROR=${werror_${PRESET}}
  -DRDMA_MIGRATE_SANITIZE=${sanitize_${PRESET}} --log-level=WARNING)
run(${CMAKE_COMMAND} --build ${build} --parallel 2)
run(${CMAKE_CTEST_COMMAND} --test-dir ${build} --output-on-failure)
