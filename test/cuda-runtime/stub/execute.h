/* Kernels as the executing stub of the driver runs them: see execute.cpp. */
#ifndef EXECUTE_H
#define EXECUTE_H
#include <stdbool.h>
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

/* A module's image, which is a shared library that the stub of NVRTC has made; null where it is none. */
void *execute_load(const void *image);
void execute_unload(void *library);
/* The name of its one kernel. */
const char *execute_name(void *library);
/* Where a parameter of it stands; false behind the last one. */
bool execute_parameter(void *library, size_t index, size_t *offset, size_t *bytes);

typedef struct Launched {
  unsigned grid, block, shared;
  /* Packed, as cuLaunchKernel gets them. */
  const unsigned char *parameters;
  size_t bytes;
} Launched;
/* Runs it, block after block. Null, or what a kernel has done wrong. One at a time. */
const char *execute_launch(void *library, const Launched *launch);

/* The allocation that an address lies in, by the stub of the driver; null where there is none. */
void *execute_allocation(const void *address, size_t *bytes);

#ifdef __cplusplus
}
#endif
#endif
