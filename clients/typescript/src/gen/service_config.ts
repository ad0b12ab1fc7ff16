// Generated from protos/ by `make gen`; never edited.
export const serviceConfig = {
  "loadBalancingConfig": [
    {
      "round_robin": {}
    }
  ],
  "retryThrottling": {
    "maxTokens": 100,
    "tokenRatio": 0.1
  },
  "methodConfig": [
    {
      "name": [
        {
          "service": "shoppable.v1.FrameDecoderService",
          "method": "ProbeVideo"
        }
      ],
      "timeout": "60s",
      "retryPolicy": {
        "maxAttempts": 3,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": [
          "UNAVAILABLE",
          "CANCELLED"
        ]
      }
    },
    {
      "name": [
        {
          "service": "shoppable.v1.FrameDecoderService",
          "method": "DecodeFrames"
        }
      ],
      "timeout": "86400s",
      "retryPolicy": {
        "maxAttempts": 3,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": [
          "CANCELLED"
        ]
      }
    },
    {
      "name": [
        {
          "service": "shoppable.v1.ObjectDetectorService",
          "method": "DetectObjects"
        }
      ],
      "timeout": "60s",
      "retryPolicy": {
        "maxAttempts": 3,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": [
          "UNAVAILABLE",
          "CANCELLED"
        ]
      }
    },
    {
      "name": [
        {
          "service": "shoppable.v1.ObjectDetectorService",
          "method": "ListDetectionModels"
        },
        {
          "service": "shoppable.v1.ObjectDetectorService",
          "method": "GetDetectionModel"
        },
        {
          "service": "shoppable.v1.ObjectDetectorService",
          "method": "ListCategories"
        }
      ],
      "timeout": "30s",
      "retryPolicy": {
        "maxAttempts": 3,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": [
          "UNAVAILABLE",
          "CANCELLED"
        ]
      }
    },
    {
      "name": [
        {
          "service": "shoppable.v1.ObjectDetectorService",
          "method": "StreamDetectObjects"
        }
      ],
      "timeout": "86400s",
      "retryPolicy": {
        "maxAttempts": 3,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": [
          "CANCELLED"
        ]
      }
    },
    {
      "name": [
        {
          "service": "shoppable.v1.OrchestratorService",
          "method": "AnnotateVideo"
        }
      ],
      "timeout": "3600s",
      "retryPolicy": {
        "maxAttempts": 3,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": [
          "CANCELLED"
        ]
      }
    },
    {
      "name": [
        {
          "service": "shoppable.v1.OrchestratorService",
          "method": "RematchProducts"
        }
      ],
      "timeout": "60s",
      "retryPolicy": {
        "maxAttempts": 3,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": [
          "UNAVAILABLE",
          "CANCELLED"
        ]
      }
    },
    {
      "name": [
        {
          "service": "shoppable.v1.OrchestratorService",
          "method": "StreamAnnotateVideo"
        }
      ],
      "timeout": "86400s",
      "retryPolicy": {
        "maxAttempts": 3,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": [
          "CANCELLED"
        ]
      }
    },
    {
      "name": [
        {
          "service": "shoppable.v1.ProductCatalogService",
          "method": "CreateCatalog"
        },
        {
          "service": "shoppable.v1.ProductCatalogService",
          "method": "GetCatalog"
        },
        {
          "service": "shoppable.v1.ProductCatalogService",
          "method": "ListCatalogs"
        },
        {
          "service": "shoppable.v1.ProductCatalogService",
          "method": "GetProduct"
        },
        {
          "service": "shoppable.v1.ProductCatalogService",
          "method": "ListProducts"
        },
        {
          "service": "shoppable.v1.ProductCatalogService",
          "method": "DeleteProduct"
        }
      ],
      "timeout": "30s",
      "retryPolicy": {
        "maxAttempts": 3,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": [
          "UNAVAILABLE",
          "CANCELLED"
        ]
      }
    },
    {
      "name": [
        {
          "service": "shoppable.v1.ProductCatalogService",
          "method": "DeleteCatalog"
        }
      ],
      "timeout": "300s",
      "retryPolicy": {
        "maxAttempts": 3,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": [
          "UNAVAILABLE",
          "CANCELLED"
        ]
      }
    },
    {
      "name": [
        {
          "service": "shoppable.v1.ProductCatalogService",
          "method": "UpsertProducts"
        },
        {
          "service": "shoppable.v1.ProductCatalogService",
          "method": "CalibrateCatalog"
        },
        {
          "service": "shoppable.v1.ProductCatalogService",
          "method": "RestoreCatalog"
        }
      ],
      "timeout": "86400s"
    },
    {
      "name": [
        {
          "service": "shoppable.v1.ProductCatalogService",
          "method": "FindDuplicates"
        },
        {
          "service": "shoppable.v1.ProductCatalogService",
          "method": "BackupCatalog"
        }
      ],
      "timeout": "86400s",
      "retryPolicy": {
        "maxAttempts": 3,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": [
          "CANCELLED"
        ]
      }
    },
    {
      "name": [
        {
          "service": "shoppable.v1.ProductMatcherService",
          "method": "MatchProducts"
        },
        {
          "service": "shoppable.v1.ProductMatcherService",
          "method": "SearchProducts"
        }
      ],
      "timeout": "60s",
      "retryPolicy": {
        "maxAttempts": 3,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": [
          "UNAVAILABLE",
          "CANCELLED"
        ]
      }
    },
    {
      "name": [
        {
          "service": "shoppable.v1.ServerInfoService",
          "method": "GetServerInfo"
        }
      ],
      "timeout": "10s",
      "retryPolicy": {
        "maxAttempts": 3,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": [
          "UNAVAILABLE",
          "CANCELLED"
        ]
      }
    }
  ]
};
