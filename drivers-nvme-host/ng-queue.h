/* SPDX-License-Identifier: GPL-2.0 */
/*
 * nvme-ng: what the PCIe transport calls: for devices that memory is mapped
 * for, and for queue pairs that blk-mq does not know.
 */
#ifndef _NVME_NG_QUEUE_H
#define _NVME_NG_QUEUE_H

#include <linux/types.h>

struct cpumask;
struct nvme_command;
struct nvme_completion;
struct nvme_ctrl;
struct nvme_ng_queue;

/**
 * struct nvme_ng_queue_ops - how the transport tells the controller
 * @ring_sq: there are commands before @tail
 * @ring_cq: completions before @head have been seen
 * @disable: the controller is being removed and does not answer: disable it,
 *	which cancels all commands
 * @is_frozen: somebody recovers the link to the controller, which must not be
 *	reset meanwhile
 *
 * All but @disable are called with the lock of the queue held, interrupts off.
 */
struct nvme_ng_queue_ops {
	void (*ring_sq)(void *queue, u16 tail);
	void (*ring_cq)(void *queue, u16 head);
	void (*disable)(void *queue);
	bool (*is_frozen)(void *queue);
};

void nvme_ng_add_device(struct nvme_ctrl *ctrl);
void nvme_ng_remove_device(struct nvme_ctrl *ctrl);

struct nvme_ng_queue *nvme_ng_add_queue(struct nvme_ctrl *ctrl, u16 qid,
					u32 depth, bool polled,
					const struct nvme_ng_queue_ops *ops,
					void *priv);
void nvme_ng_start_queue(struct nvme_ng_queue *q, u32 depth, bool polled,
			 const struct cpumask *cpus, struct nvme_command *sqes,
			 struct nvme_completion *cqes);
void nvme_ng_stop_queue(struct nvme_ng_queue *q);
void nvme_ng_cancel_queue(struct nvme_ng_queue *q);
bool nvme_ng_queue_irq(struct nvme_ng_queue *q);
void nvme_ng_remove_queue(struct nvme_ng_queue *q);

#endif /* _NVME_NG_QUEUE_H */
