// SPDX-License-Identifier: GPL-2.0
/*
 * A user-space driver, no more than what a read needs: one queue pair, polled,
 * no error recovery. It is the floor below every path through the kernel, not
 * a driver for anything else.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <libgen.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vfio.h"

#define PAGE		4096UL
/* Where the device sees memory: the queues, behind them the buffer. */
#define QUEUES_IOVA	0x100000ULL
#define BUFFER_IOVA	0x10000000ULL
/* Parts of the queues' memory. */
#define ADMIN_SQ	0UL
#define ADMIN_CQ	PAGE
#define IO_CQ		(2 * PAGE)
#define IO_SQ		(3 * PAGE)
#define QUEUES_SIZE	(IO_SQ + VFIO_ENTRIES * sizeof(struct nvme_sqe))
#define ADMIN_ENTRIES	32

/* Registers, and bits of them. */
#define CC		0x14
#define CSTS		0x1c
#define AQA		0x24
#define ASQ		0x28
#define ACQ		0x30
#define DOORBELLS	0x1000
#define CC_ENABLE	0x00460001	/* 64 byte and 16 byte entries */
#define CSTS_READY	1U

static int container, device;
static char *queues, *bar;

static volatile uint32_t *reg32(unsigned int offset)
{
	return (volatile uint32_t *)(bar + offset);
}

static void write64(unsigned int offset, uint64_t value)
{
	*reg32(offset) = value;
	*reg32(offset + 4) = value >> 32;
}

static const char *open_device(const char *pci)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	char path[128], link[128] = "";
	int group;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", pci);
	if (readlink(path, link, sizeof(link) - 1) < 0)
		return "no IOMMU";
	snprintf(path, sizeof(path), "/dev/vfio/%s", basename(link));
	container = open("/dev/vfio/vfio", O_RDWR);
	group = open(path, O_RDWR);
	if (container < 0 || group < 0 ||
	    ioctl(group, VFIO_GROUP_GET_STATUS, &status) ||
	    !(status.flags & VFIO_GROUP_FLAGS_VIABLE) ||
	    ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) ||
	    ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		return "not with vfio-pci";
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, pci);
	return device < 0 ? "not with vfio-pci" : NULL;
}

static int map(void *memory, size_t len, uint64_t iova)
{
	struct vfio_iommu_type1_dma_map dma = {
		.argsz = sizeof(dma),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)memory, .iova = iova,
		.size = (len + PAGE - 1) & -PAGE,
	};

	return ioctl(container, VFIO_IOMMU_MAP_DMA, &dma);
}

/* The registers, and the right to read memory. */
static const char *map_registers(void)
{
	struct vfio_region_info config = {
		.argsz = sizeof(config), .index = VFIO_PCI_CONFIG_REGION_INDEX,
	}, region = {
		.argsz = sizeof(region), .index = VFIO_PCI_BAR0_REGION_INDEX,
	};
	uint16_t command;

	if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config) ||
	    ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &region))
		return "region info";
	if (pread(device, &command, 2, config.offset + PCI_COMMAND) != 2)
		return "configuration space";
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	if (pwrite(device, &command, 2, config.offset + PCI_COMMAND) != 2)
		return "configuration space";
	bar = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, device,
		   region.offset);
	return bar == MAP_FAILED ? "registers" : NULL;
}

static int wait_ready(uint32_t ready)
{
	int i;

	for (i = 0; i < 1000; i++) {
		if ((*reg32(CSTS) & CSTS_READY) == ready)
			return 0;
		usleep(10000);
	}
	return -1;
}

static int enable(void)
{
	*reg32(CC) = 0;
	if (wait_ready(0))
		return -1;
	*reg32(AQA) = (ADMIN_ENTRIES - 1) << 16 | (ADMIN_ENTRIES - 1);
	write64(ASQ, QUEUES_IOVA + ADMIN_SQ);
	write64(ACQ, QUEUES_IOVA + ADMIN_CQ);
	*reg32(CC) = CC_ENABLE;
	return wait_ready(CSTS_READY);
}

/* An admin command without data, for the few that are ever sent. */
static int admin(uint8_t opcode, uint64_t addr, uint32_t cdw10, uint32_t cdw11)
{
	static unsigned int sent;
	struct nvme_sqe *sqe = (struct nvme_sqe *)(queues + ADMIN_SQ) + sent;
	volatile struct nvme_cqe *cqe =
		(struct nvme_cqe *)(queues + ADMIN_CQ) + sent;
	int i;

	*sqe = (struct nvme_sqe) { .opcode = opcode, .cid = sent, .addr = addr,
				   .cdw10 = cdw10, .cdw11 = cdw11 };
	*reg32(DOORBELLS) = ++sent;
	for (i = 0; i < 1000 && !(cqe->status & 1); i++)
		usleep(1000);
	*reg32(DOORBELLS + 4) = sent;
	return cqe->status == 1 ? 0 : -1;
}

const char *vfio_open(struct vfio_queue *queue, const char *pci, void *buf,
		      size_t len, uint64_t *iova)
{
	const char *failed = open_device(pci);

	if (!failed)
		failed = map_registers();
	if (failed)
		return failed;
	queues = mmap(NULL, QUEUES_SIZE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (queues == MAP_FAILED || map(queues, QUEUES_SIZE, QUEUES_IOVA) ||
	    map(buf, len, BUFFER_IOVA))
		return "DMA mapping";
	if (enable())
		return "controller enable";
	/* create queue 1: physically contiguous, without interrupts */
	if (admin(5, QUEUES_IOVA + IO_CQ, (VFIO_ENTRIES - 1) << 16 | 1, 1) ||
	    admin(1, QUEUES_IOVA + IO_SQ, (VFIO_ENTRIES - 1) << 16 | 1,
		  1 << 16 | 1))
		return "queue creation";
	queue->sqes = (struct nvme_sqe *)(queues + IO_SQ);
	queue->cqes = (struct nvme_cqe *)(queues + IO_CQ);
	queue->sq_doorbell = reg32(DOORBELLS + 8);
	queue->cq_doorbell = reg32(DOORBELLS + 12);
	*iova = BUFFER_IOVA;
	return NULL;
}
