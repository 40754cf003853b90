/* SPDX-License-Identifier: GPL-2.0 */
/* Memory of every kind, mapped for commands to come. */
#ifndef NVME_TEST_REGION_H
#define NVME_TEST_REGION_H

#include "ring.h"
#include "nvme_ng.h"

#define NT_HUGE		(2UL << 20)

enum nt_kind {
	NT_SMALL,	/* pages that came in an order of their own */
	NT_THP,
	NT_HUGETLB,
	NT_SHARED,
	NT_MEMFD,
	NT_DMABUF,
	NT_KINDS,
};

/**
 * struct nt_area - memory
 * @at: where the program sees it
 * @len: bytes
 * @dmabuf: the dma-buf that it is of, or -1
 */
struct nt_area {
	unsigned char *at;
	size_t len;
	int dmabuf;
};

/* the ways to set a ring up that matter to regions */
#define NT_MODES 6
extern const struct nt_mode nt_modes[NT_MODES];

const char *nt_kind_name(enum nt_kind kind);
bool nt_area_make(enum nt_kind kind, size_t len, struct nt_area *area);
void nt_area_free(struct nt_area *area);

int nt_map(int fd, __u32 flags, const void *addr, __u64 len, __u32 *region);
int nt_map_area(int fd, const struct nt_area *area, __u64 skip, __u32 *region,
		__u32 *granule);
int nt_unmap(int fd, __u32 region);
int nt_limits(int fd, struct nvme_ng_limits *lim);

struct io_uring_sqe *nt_region_put(struct nt_ring *r, int fd, __u32 op,
				   const struct nvme_uring_cmd *cmd,
				   __u32 region, __u32 meta_region);

/**
 * struct nt_results - where the commands of arrays end
 * @head: its beginning
 * @entry: its entries
 * @entries: number of them
 * @ring: handle
 */
struct nt_results {
	struct nvme_ng_ring_head *head;
	struct nvme_ng_ring_entry *entry;
	unsigned int entries;
	__u32 ring;
};

int nt_results_try(int fd, unsigned int entries, struct nt_results *results);
void nt_results_make(int fd, unsigned int entries, struct nt_results *results);
void nt_results_free(struct nt_results *results);
bool nt_results_next(struct nt_results *results, __u64 *tag, int *status);
struct io_uring_sqe *nt_array_put(struct nt_ring *r, int fd,
				  const struct nvme_ng_array_cmd *cmds,
				  unsigned int nr, __u32 ring);
int nt_region_run(struct nt_ring *r, int fd, __u32 op,
		  const struct nvme_uring_cmd *cmd, __u32 region,
		  __u32 meta_region);

#endif /* NVME_TEST_REGION_H */
