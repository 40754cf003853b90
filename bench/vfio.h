/* SPDX-License-Identifier: GPL-2.0 */
#ifndef BENCH_VFIO_H
#define BENCH_VFIO_H

#include <stddef.h>
#include <stdint.h>

/* Entries of the one queue pair, a power of two. */
#define VFIO_ENTRIES	256

struct nvme_sqe {
	uint8_t opcode, flags;
	uint16_t cid;
	uint32_t nsid, cdw2, cdw3;
	uint64_t metadata, addr;
	uint32_t len, type;
	uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};

struct nvme_cqe {
	uint32_t dw0, dw1;
	uint16_t sq_head, sq_id, cid, status;
};

struct vfio_queue {
	struct nvme_sqe *sqes;
	struct nvme_cqe *cqes;
	volatile uint32_t *sq_doorbell, *cq_doorbell;
	unsigned int tail, head;
};

/*
 * Take the controller with this PCI address from vfio-pci, create one queue
 * pair, map the buffer for DMA: what the device knows it by. Returns what
 * failed, or NULL.
 */
const char *vfio_open(struct vfio_queue *queue, const char *pci, void *buf,
		      size_t len, uint64_t *iova);

#endif
