// The headers that are compiled once (CMakeLists.txt): no test.
