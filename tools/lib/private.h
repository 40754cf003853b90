/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef NVMENG_PRIVATE_H
#define NVMENG_PRIVATE_H

#include "nvmeng.h"

/* Status Code Type and Status Code, without More, CRD and DNR */
#define NVMENG_STATUS	0x7ff

/**
 * struct nvmeng - an open node
 * @fd: its descriptor
 * @block_size: bytes of a block in memory, 0 without blocks
 * @limits: of its namespace
 */
struct nvmeng {
	int fd;
	__u32 block_size;
	struct nvme_ng_limits limits;
};

#endif /* NVMENG_PRIVATE_H */
