# For prebuilt addons (packaging/prebuild): links against the libraries in RDMA_MIGRATE_FLOOR, which have only what an old glibc has, and
# brings along what else is needed. libgcc_s is the machine's: Node needs it as well, and there is to be one unwinder in a process.
# Otherwise those libraries, which have no code, would be looked for at run time, too.
set(CMAKE_SKIP_RPATH ON)
add_link_options(-L${RDMA_MIGRATE_FLOOR} -static-libstdc++ -shared-libgcc -Wl,-s
  -Wl,--version-script,${CMAKE_CURRENT_LIST_DIR}/floor.map
  -Wl,--no-as-needed -l:libpthread.so.0 -l:libdl.so.2 -Wl,--as-needed)
add_library(rdma_migrate_floor OBJECT packaging/prebuild/floor.cc)
link_libraries($<TARGET_OBJECTS:rdma_migrate_floor>)
